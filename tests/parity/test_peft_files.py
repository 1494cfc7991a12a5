"""What PEFT writes into an adapter's files, in all its ways, and what it computes when it reads them again."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from npora.files import load_file
from npora.lora import read_record
from npora.lora.folder import weights_path
from tests.parity.reference import BATCH, assert_close, npora_bert, reference_bert, tensors, torch
from tests.parity.test_peft import complete, peft, randomize


def saved(base: Any, directory: Path, **config: Any) -> Any:
    """PEFT's model, its adapter in `directory`, and its base as the adapter found it."""
    model = randomize(peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(**complete(config)))).eval()
    model.save_pretrained(directory)
    return model


def change(directory: Path, **values: Any) -> None:
    path = directory / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def assert_reads_the_same(base: Any, directory: Path, ours: Any) -> Any:
    """npora's outputs are those of PEFT that reads the same files; returns both models."""
    model = PeftModel.from_pretrained(ours, directory)
    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(base), directory).eval()
    assert_close(model(**BATCH)[0].logits, theirs(**tensors(BATCH)).logits, 1e-12)
    return model, theirs


@pytest.mark.parametrize(
    "values",
    [
        {"target_modules": ["query", "value", "q_proj", "c_attn"]},
        {"target_modules": ["query", "value"], "exclude_modules": ["vision_tower"]},
        {"layers_to_transform": [0, 1, 7], "layers_pattern": ["layer", "h"]},
        {"rank_pattern": {"q_proj": 64}, "alpha_pattern": {"q_proj": 64}},
        {"modules_to_save": ["classifier", "score", "classifier", "score", "lm_head"]},
        {"loftq_config": {}, "megatron_core": None, "revision": "refs/pr/1", "use_qalora": False},
        {"runtime_config": {"ephemeral_gpu_offload": False}},
        {"newer_feature": None, "newer_size": 16},
    ],
)
def test_what_a_config_names_besides_changes_nothing_as_in_peft(tmp_path: Path, values: dict[str, Any]) -> None:
    base = reference_bert(tmp_path / "base")
    saved(base, tmp_path / "adapter")
    change(tmp_path / "adapter", **values)
    model, _ = assert_reads_the_same(base, tmp_path / "adapter", npora_bert(tmp_path / "base"))
    assert_reads_the_same(base, tmp_path / "adapter", npora_bert(tmp_path / "base"))
    model.save_pretrained(tmp_path / "again")
    assert_reads_the_same(base, tmp_path / "again", npora_bert(tmp_path / "base"))


@pytest.mark.parametrize("start", [False, "gaussian", "orthogonal", "mica"])
def test_a_start_that_leaves_the_base_alone_is_read_as_peft_reads_it(tmp_path: Path, start: bool | str) -> None:
    base = reference_bert(tmp_path / "base").float()
    theirs = saved(base, tmp_path / "adapter", r=2, init_lora_weights=start)
    for name, parameter in base.named_parameters():
        assert torch.equal(theirs.get_parameter(adapted(theirs, name)), parameter), name
    model, _ = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "adapter"), None
    assert_close(model(**BATCH)[0].logits, theirs.double()(**tensors(BATCH)).logits, 1e-5)


def adapted(theirs: Any, name: str) -> str:
    """The name of a base's parameter below PEFT's wrappers."""
    names = dict(theirs.named_parameters())
    path, _, leaf = name.rpartition(".")
    found = (f"base_model.model.{path}{part}.{leaf}" for part in ("", ".base_layer", ".original_module"))
    return next(candidate for candidate in found if candidate in names)


def test_an_adapter_of_eva_is_read_with_its_ranks(tmp_path: Path) -> None:
    base = reference_bert(tmp_path / "base").float()
    changes = {"init_lora_weights": "eva", "eva_config": peft.EvaConfig(rho=2.0), "target_modules": ["query", "dense"]}
    config = peft.LoraConfig(**complete({**changes, "exclude_modules": ["pooler.dense"]}))
    theirs = peft.get_peft_model(copy.deepcopy(base), config)
    rng = np.random.default_rng(0)
    batches = [tensors({"input_ids": rng.integers(1, 50, (8, 9))}) for _ in range(4)]
    peft.initialize_lora_eva_weights(theirs, batches, show_progress_bar=False)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    theirs.save_pretrained(tmp_path / "adapter")
    written = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert written["init_lora_weights"] == "eva" and written["eva_config"]["rho"] == 2.0 and written["rank_pattern"]
    model = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "adapter")
    assert_close(model(**BATCH)[0].logits, theirs.double().eval()(**tensors(BATCH)).logits, 1e-5)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora"])
def test_a_start_that_alters_the_base_is_refused_and_its_plain_form_loads(tmp_path: Path, start: str) -> None:
    base = reference_bert(tmp_path / "base").float()
    theirs = peft.get_peft_model(
        copy.deepcopy(base), peft.LoraConfig(**complete({"init_lora_weights": start, "task_type": None}))
    )
    theirs.save_pretrained(tmp_path / "initial")
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    theirs.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match=f"began with init_lora_weights='{start}', which altered the base's weights"):
        PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "adapter")
    expected = copy.deepcopy(theirs).double().eval()(**tensors(BATCH)).logits
    initial = tmp_path / "initial"
    theirs.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=str(initial))
    model = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "plain")
    assert_close(model(**BATCH)[0].logits, expected, 1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_adapter_of_half_precision_is_read_as_peft_reads_it(tmp_path: Path, dtype: Any) -> None:
    base = reference_bert(tmp_path / "base")
    saved(base, tmp_path / "adapter").to(dtype).save_pretrained(tmp_path / "adapter")
    stored = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {value.dtype for value in stored.values()} == {np.dtype("f2" if dtype is torch.float16 else "f4")}
    model = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "adapter")
    for name, parameter in model.adapter_parameters("default").items():
        np.testing.assert_array_equal(parameter.data, stored[name].astype(np.float64))


@pytest.mark.parametrize("embeddings", [True, "auto"])
def test_embeddings_saved_beside_an_adapter_are_the_bases(tmp_path: Path, embeddings: bool | str) -> None:
    base = reference_bert(tmp_path / "base")
    theirs = saved(base, tmp_path / "adapter")
    theirs.save_pretrained(tmp_path / "adapter", save_embedding_layers=embeddings)
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert any("word_embeddings" in name for name in names) == (embeddings is True)
    assert_reads_the_same(base, tmp_path / "adapter", npora_bert(tmp_path / "base"))


def test_a_head_that_is_saved_though_no_field_names_it_is_read_as_peft_reads_it(tmp_path: Path) -> None:
    base = reference_bert(tmp_path / "base")
    saved(base, tmp_path / "adapter", modules_to_save=["pooler"])
    change(tmp_path / "adapter", modules_to_save=None, task_type=None)
    assert_reads_the_same(base, tmp_path / "adapter", npora_bert(tmp_path / "base"))


def test_the_command_that_converts_a_pickle_gives_the_file_that_peft_saves(tmp_path: Path) -> None:
    base = reference_bert(tmp_path / "base")
    theirs = saved(base, tmp_path / "adapter")
    theirs.save_pretrained(tmp_path / "pickled", safe_serialization=False)
    with pytest.raises(FileNotFoundError) as error:
        PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "pickled")
    command = str(error.value).partition("installed: ")[2]
    program = command.removeprefix('python -c "').removesuffix('"')
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path / "pickled", check=True, timeout=120)
    pair = [load_file(weights_path(tmp_path / name)) for name in ("adapter", "pickled")]
    assert pair[0].keys() == pair[1].keys()
    assert all((pair[0][name] == pair[1][name]).all() for name in pair[0])


def test_an_adapter_that_trains_the_pooler_of_npora_is_one_to_peft(tmp_path: Path) -> None:
    """What npora notes beside the tensors, and the modules it names, are no matter to PEFT."""
    base = reference_bert(tmp_path / "base")
    ours = get_peft_model(npora_bert(tmp_path / "base"), LoraConfig(**complete({"modules_to_save": ["bert.pooler"]})))
    ours.notes["max_length"] = 9
    for parameter in ours.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3
    ours.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert_close(ours(**BATCH)[0].logits, theirs(**tensors(BATCH)).logits, 1e-12)
    assert read_record(tmp_path / "adapter")["notes"] == {"max_length": 9}
    theirs.save_pretrained(tmp_path / "again")
    assert read_record(tmp_path / "again")["num_labels"] == 3
    assert_reads_the_same(reference_bert(tmp_path / "base"), tmp_path / "again", npora_bert(tmp_path / "base"))


def test_blocks_in_blocks_and_merging_within_them_are_as_in_peft(tmp_path: Path) -> None:
    base = reference_bert(tmp_path / "base")
    theirs = saved(base, tmp_path / "adapter")
    ours = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "adapter")
    adapted, plain = theirs(**tensors(BATCH)).logits, base(**tensors(BATCH)).logits
    with ours.disable_adapter():
        with ours.disable_adapter():
            pass
        assert_close(ours(**BATCH)[0].logits, plain, 1e-12)
        ours.merge_adapter()
        assert_close(ours(**BATCH)[0].logits, plain, 1e-12)
    assert_close(ours(**BATCH)[0].logits, adapted, 1e-12)
    with ours.disable_adapter():
        merged = ours.merge_and_unload()
    assert_close(merged(**BATCH)[0].logits, adapted, 1e-12)
