"""Trained tokens against PEFT's: beside LoRA and alone, of a tied embedding and of one whose head is apart."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, TrainableTokensConfig, get_peft_model
from npora.files import load_file
from tests.parity.both import moved
from tests.parity.decoders import GRADIENT, LOGITS, RIGHT
from tests.parity.reference import (
    BATCH,
    assert_close,
    assert_same_gradients,
    npora_bert,
    reference_bert,
    tensors,
    torch,
    transformers,
    widen,
)
from tests.parity.test_peft import peft, randomize
from tests.parity.test_peft_embeddings import assert_same, batch, pair

LORA = {"r": 3, "lora_alpha": 5, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
CASES: dict[str, tuple[bool, Any, Any, dict[str, Any]]] = {
    "a list": (True, LoraConfig, peft.LoraConfig, {**LORA, "trainable_token_indices": [3, 44, 7]}),
    "a list, apart": (False, LoraConfig, peft.LoraConfig, {**LORA, "trainable_token_indices": [3, 44]}),
    "by name": (True, LoraConfig, peft.LoraConfig, {**LORA, "trainable_token_indices": {"embed_tokens": [5, 0]}}),
    "a head of its own": (
        False, LoraConfig, peft.LoraConfig,
        {**LORA, "trainable_token_indices": {"embed_tokens": [5, 9], "lm_head": [9, 12, 3]}},
    ),
    "alone": (
        True, TrainableTokensConfig, peft.TrainableTokensConfig, {"token_indices": [44, 5], "task_type": "CAUSAL_LM"},
    ),
    "alone, apart": (
        False, TrainableTokensConfig, peft.TrainableTokensConfig,
        {"token_indices": [44, 5], "target_modules": ["embed_tokens"]},
    ),
}  # fmt: skip
cases = pytest.mark.parametrize(("tied", "kind", "theirs_kind", "fields"), CASES.values(), ids=CASES.keys())


@pytest.fixture(autouse=True)
def in_float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    widen(monkeypatch, transformers.models.llama.modeling_llama)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_a_classifiers_head_is_trained_beside_them_and_need_not_be_in_a_file(tmp_path: Path) -> None:
    """PEFT trains none there, but loads one."""
    theirs, base = reference_bert(tmp_path / "base"), npora_bert(tmp_path / "base")
    plain, fields = copy.deepcopy(theirs), {"token_indices": [7, 3], "task_type": "SEQ_CLS"}
    theirs = randomize(peft.get_peft_model(theirs, peft.TrainableTokensConfig(**fields))).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    ours = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path / "theirs")
    assert_close(ours(**BATCH)[0].logits, theirs(**tensors(BATCH)).logits, 1e-12)
    ours = moved(get_peft_model(base, TrainableTokensConfig(**fields)))
    ours.save_pretrained(tmp_path / "ours")
    again = peft.PeftModel.from_pretrained(plain, tmp_path / "ours").eval()
    assert_close(ours(**BATCH)[0].logits, again(**tensors(BATCH)).logits, 1e-12)


@cases
def test_outputs_gradients_files_and_merging_are_pefts(
    tmp_path: Path, tied: bool, kind: Any, theirs_kind: Any, fields: dict[str, Any]
) -> None:
    theirs, base = pair(tmp_path / "base", tied)
    plain, logits = copy.deepcopy(theirs), base(**batch())[0].logits
    fresh = get_peft_model(copy.deepcopy(base), kind(**fields))
    theirs = peft.get_peft_model(theirs, theirs_kind(**fields))
    shapes = [
        {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad} for model in (fresh, theirs)
    ]
    assert shapes[0] == shapes[1]
    assert fresh.get_nb_trainable_parameters() == theirs.get_nb_trainable_parameters()
    np.testing.assert_allclose(fresh(**batch())[0].logits, logits, rtol=0, atol=LOGITS)

    randomize(theirs).eval().save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(base, tmp_path / "adapter", is_trainable=True)
    assert_same(ours, theirs)
    ours(**RIGHT)[1]()
    theirs(**tensors(RIGHT)).loss.backward()
    assert assert_same_gradients(ours, theirs, GRADIENT) >= 1
    with ours.disable_adapter():
        assert ours(**batch())[0].logits.tobytes() == logits.tobytes()

    ours.save_pretrained(tmp_path / "again")
    files = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("again", "adapter")]
    copies = files[1].keys() - files[0].keys()  # a tied head's, where there is no LoRA beside
    assert files[0].keys() <= files[1].keys() and all("lm_head" in name and "r" not in fields for name in copies)
    assert all((files[0][name] == files[1][name]).all() for name in files[0])
    again = peft.PeftModel.from_pretrained(plain, tmp_path / "again").eval()
    assert_same(ours, again)

    ours.merge_adapter()
    assert_same(ours, theirs)
    ours.unmerge_adapter()
    merged = ours.merge_and_unload()
    assert_same(merged, again.merge_and_unload())
    assert (merged.lm_head.weight is merged.model.embed_tokens.weight) == tied
    merged.save_pretrained(tmp_path / "merged")
    assert_same(merged, transformers.LlamaForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float64))
