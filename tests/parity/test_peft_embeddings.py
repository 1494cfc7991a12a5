"""LoRA on the embedding and on the projection to the vocabulary of a Llama against PEFT's, tied and apart."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForCausalLM, LoraConfig, PeftModel, get_peft_model
from npora.files import load_file
from tests.parity.both import moved
from tests.parity.decoders import GRADIENT, LOGITS, RIGHT, SIZES
from tests.parity.reference import assert_close, assert_same_gradients, tensors, torch, transformers, widen
from tests.parity.test_peft import peft, randomize

TARGETS = ["embed_tokens", "q_proj", "lm_head"]
REAL = RIGHT["attention_mask"].astype(bool)


@pytest.fixture(autouse=True)
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Any:
    widen(monkeypatch, transformers.models.llama.modeling_llama)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def pair(directory: Path, tied: bool) -> tuple[Any, Any]:
    config = transformers.LlamaConfig(**{**SIZES, "head_dim": 10, "tie_word_embeddings": tied, "num_hidden_layers": 1})
    theirs = transformers.LlamaForCausalLM(config).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in theirs.named_parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    theirs.save_pretrained(directory)
    return theirs, AutoModelForCausalLM.from_pretrained(directory, dtype=np.float64)


def batch() -> dict[str, Any]:
    return {name: value for name, value in RIGHT.items() if name != "labels"}


def assert_same(ours: Any, theirs: Any) -> None:
    assert_close(ours(**batch())[0].logits[REAL], theirs(**tensors(batch())).logits[torch.tensor(REAL)], LOGITS)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("embeddings", ["auto", False])
@pytest.mark.filterwarnings("ignore::UserWarning")  # PEFT's, of tied layers and saved embeddings
def test_outputs_gradients_files_and_merging_are_pefts(tmp_path: Path, tied: bool, embeddings: Any) -> None:
    theirs, base = pair(tmp_path / "base", tied)
    fields: dict[str, Any] = {"r": 3, "lora_alpha": 5, "target_modules": TARGETS, "task_type": "CAUSAL_LM"}
    plain = copy.deepcopy(theirs)
    theirs = randomize(peft.get_peft_model(theirs, peft.LoraConfig(**fields))).eval()
    theirs.save_pretrained(tmp_path / "adapter", save_embedding_layers=embeddings)
    ours = PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    assert_same(ours, theirs)
    ours(**RIGHT)[1]()
    theirs(**tensors(RIGHT)).loss.backward()
    assert assert_same_gradients(ours, theirs, GRADIENT) == 6
    ours.save_pretrained(tmp_path / "again")
    files = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("again", "adapter")]
    assert set(files[1]) - set(files[0]) == {name for name in files[1] if ".base_layer." in name}  # see like_peft.md
    assert all((files[0][name] == files[1][name]).all() for name in files[0])
    again = peft.PeftModel.from_pretrained(plain, tmp_path / "again").eval()
    assert_same(ours, again)
    logits, bytes_before = ours(**batch())[0].logits, base.model.embed_tokens.base_layer.weight.data.tobytes()
    merged = ours.merge_and_unload()
    np.testing.assert_allclose(merged(**batch())[0].logits, logits, rtol=0, atol=LOGITS)
    if not tied:  # of one matrix PEFT merges each update into both
        assert_same(merged, again.merge_and_unload())
    assert base.lm_head.weight is not base.model.embed_tokens.weight
    assert (
        AutoModelForCausalLM.from_pretrained(
            tmp_path / "base", dtype=np.float64
        ).model.embed_tokens.weight.data.tobytes()
        == bytes_before
    )
    merged.save_pretrained(tmp_path / "merged")
    assert_same(merged, transformers.LlamaForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float64))


@pytest.mark.parametrize("tied", [True, False])
def test_a_fresh_adapter_starts_as_pefts_and_is_the_base(tmp_path: Path, tied: bool) -> None:
    _, ours = pair(tmp_path, tied)
    plain = ours(**batch())[0].logits.tobytes()
    ours = get_peft_model(ours, LoraConfig(r=3, target_modules=TARGETS))
    found = dict(ours.named_parameters())
    A, B = (found[f"base_model.model.model.embed_tokens.lora_embedding_{part}.default"].data for part in "AB")
    assert not A.any() and 0.6 < B.std() < 1.4
    assert ours(**batch())[0].logits.tobytes() == plain
    moved(ours)
    with ours.disable_adapter():
        assert ours(**batch())[0].logits.tobytes() == plain
    assert ours.unload()(**batch())[0].logits.tobytes() == plain


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_adapters_merged_in_order_are_pefts(tmp_path: Path) -> None:
    theirs, base = pair(tmp_path / "base", tied=False)
    fields = {"lora_alpha": 5, "target_modules": ["embed_tokens"], "task_type": "CAUSAL_LM"}
    ours = moved(get_peft_model(base, LoraConfig(r=3, **fields)))
    ours.add_adapter("second", LoraConfig(r=2, use_dora=True, **fields))
    ours.set_adapter("second")
    moved(ours, seed=4).save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    theirs.load_adapter(tmp_path / "adapter" / "second", "second")
    for names in (["default", "second"], ["second", "default"]):
        for model in (ours, theirs):
            model.merge_adapter(names)
        assert_same(ours, theirs)
        for model in (ours, theirs):
            model.unmerge_adapter()
