"""Adapters against PEFT: the same targets, names, numbers and gradients, and files that each reads from the other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from npora.files import load_file
from tests.parity.reference import (
    BATCH,
    LABELS,
    assert_close,
    assert_same_gradients,
    npora_bert,
    reference_bert,
    tensors,
    torch,
)  # fmt: skip

peft = pytest.importorskip("peft", reason="needs the extra `parity`")

CONFIGS: dict[str, dict[str, Any]] = {
    "query and value": {},
    "defaults": {"target_modules": None},
    "rank-stabilised": {"use_rslora": True},
    "all biases": {"bias": "all"},
    "biases of the targets": {"bias": "lora_only"},
    "another module saved": {"modules_to_save": ["pooler"]},
    "all linear": {"target_modules": "all-linear"},
    "a pattern": {"target_modules": r".*layer\.1.*\.(key|dense)"},
    "one layer": {"layers_to_transform": [1]},
    "one layer by its list": {"layers_to_transform": 0, "layers_pattern": "layer"},
    "some excluded": {"target_modules": ["query", "dense"], "exclude_modules": ["pooler.dense"]},
    "ranks and alphas of their own": {"rank_pattern": {"query": 2}, "alpha_pattern": {"layer.0.*value": 7}},
    "no task": {"task_type": None},
    "a bias of B": {"lora_bias": True, "target_modules": ["query", "dense"], "bias": "all"},
    "embeddings": {"target_modules": ["word_embeddings", "token_type_embeddings", "value"], "use_rslora": True},
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def complete(config: dict[str, Any]) -> dict[str, Any]:
    return {"r": 3, "lora_alpha": 5, "target_modules": ["query", "value"], "task_type": "SEQ_CLS", **config}


def randomize(model: Any) -> Any:
    """B's away from zero, so that A has a gradient."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


@every_config
def test_an_adapter_of_peft_loads_with_the_same_outputs_and_gradients(tmp_path: Path, config: dict[str, Any]) -> None:
    theirs = randomize(peft.get_peft_model(reference_bert(tmp_path / "base"), peft.LoraConfig(**complete(config))))
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "adapter", is_trainable=True)
    output, backward = ours(**BATCH, labels=LABELS)
    expected = theirs.eval()(**tensors(BATCH), labels=torch.tensor(LABELS))
    assert_close(output.logits, expected.logits, 1e-12)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(ours, theirs, 1e-10) > 4


@every_config
def test_an_adapter_of_npora_loads_in_peft_with_the_same_outputs(tmp_path: Path, config: dict[str, Any]) -> None:
    base = reference_bert(tmp_path / "base")
    ours = get_peft_model(npora_bert(tmp_path / "base"), LoraConfig(**complete(config)))
    rng = np.random.default_rng(2)
    for parameter in ours.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * rng.standard_normal(parameter.shape)
    ours.save_pretrained(tmp_path / "adapter")
    theirs = peft.PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    assert_close(ours(**BATCH)[0].logits, theirs(**tensors(BATCH)).logits, 1e-12)


@every_config
def test_names_counts_and_files_are_pefts(
    tmp_path: Path, config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = peft.get_peft_model(reference_bert(tmp_path / "base"), peft.LoraConfig(**complete(config)))
    ours = get_peft_model(npora_bert(tmp_path / "base"), LoraConfig(**complete(config)))
    shapes = {name: (tuple(p.shape), p.requires_grad) for name, p in ours.named_parameters()}
    assert shapes == {name: (tuple(p.shape), p.requires_grad) for name, p in theirs.named_parameters()}
    theirs.print_trainable_parameters()
    expected = capsys.readouterr().out
    ours.print_trainable_parameters()
    assert capsys.readouterr().out == expected
    for model, name in ((ours, "ours"), (theirs, "theirs")):
        model.save_pretrained(tmp_path / name)
    files = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("ours", "theirs")]
    # With bias="all" PEFT saves the head's bias twice more, under the names of its wrapper's inner modules.
    copies = (".modules_to_save.bias", ".original_module.bias")
    expected_shapes = {name: value.shape for name, value in files[1].items() if not name.endswith(copies)}
    assert {name: value.shape for name, value in files[0].items()} == expected_shapes
    assert sorted(os.listdir(tmp_path / "ours")) == ["adapter_config.json", "adapter_model.safetensors"]
    configs = [json.loads((tmp_path / name / "adapter_config.json").read_text()) for name in ("ours", "theirs")]
    assert configs[1].keys() <= configs[0].keys()


def test_merged_and_disabled_models_agree_with_pefts(tmp_path: Path) -> None:
    theirs = randomize(peft.get_peft_model(reference_bert(tmp_path / "base"), peft.LoraConfig(**complete({})))).eval()
    theirs.save_pretrained(tmp_path / "adapter")
    ours = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "adapter")
    with ours.disable_adapter(), theirs.disable_adapter():
        assert_close(ours(**BATCH)[0].logits, theirs(**tensors(BATCH)).logits, 1e-12)
    plain = theirs.merge_and_unload()
    assert_close(ours.merge_and_unload()(**BATCH)[0].logits, plain(**tensors(BATCH)).logits, 1e-12)
