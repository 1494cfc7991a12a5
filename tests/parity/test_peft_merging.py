"""Which adapters are merged, and what is left of the others, as in PEFT."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, get_peft_model
from tests.parity.reference import BATCH, assert_close, npora_bert, reference_bert, tensors, torch
from tests.parity.test_peft import peft

FIRST: dict[str, Any] = {"r": 3, "target_modules": ["query", "value"]}
SECOND: dict[str, Any] = {"r": 2, "target_modules": ["value", "key", "pooler.dense"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("base")


@pytest.fixture(scope="module")
def base(folder: Path) -> Any:
    return reference_bert(folder)


def pair(base: Any, folder: Path, active: str, first: dict[str, Any], second: dict[str, Any] | None) -> list[Any]:
    """PEFT's model with its adapters, and npora's with the same values."""
    models: list[Any] = [peft.get_peft_model(copy.deepcopy(base), peft.LoraConfig(**first)).eval()]
    models.append(get_peft_model(npora_bert(folder), LoraConfig(**first)))
    if second:
        models[0].add_adapter("second", peft.LoraConfig(**second))
        models[1].add_adapter("second", LoraConfig(**second))
    rng, ours = np.random.default_rng(0), dict(models[1].named_parameters())
    for name, parameter in models[0].named_parameters():
        if ".original_module." not in name and (
            "lora_" in name or "modules_to_save" in name or parameter.requires_grad
        ):
            ours[name].data = 0.3 * rng.standard_normal(tuple(parameter.shape))
            parameter.data = torch.tensor(ours[name].data)
    for model in models:
        model.set_adapter(active)
    return models


def assert_same_logits(theirs: Any, ours: Any) -> None:
    assert_close(ours(**BATCH)[0].logits, theirs(**tensors(BATCH)).logits, 1e-12)


@pytest.mark.parametrize("active", ["default", "second"])
@pytest.mark.parametrize("names", [None, [], ["default"], ["second"], ["default", "second"], ["second", "default"]])
@pytest.mark.parametrize("saved", [{}, {"modules_to_save": ["classifier"]}])
def test_adapters_that_are_named_are_merged_as_in_peft(
    base: Any, folder: Path, names: list[str] | None, active: str, saved: dict[str, Any]
) -> None:
    theirs, ours = pair(base, folder, active, FIRST, {**SECOND, **saved})
    for model in (theirs, ours):
        model.merge_adapter(names)
    assert_same_logits(theirs, ours)
    for model in (theirs, ours):
        model.unmerge_adapter() if names != [] else None
    assert_same_logits(theirs, ours)
    plain = [model.merge_and_unload(adapter_names=names) for model in (theirs, ours)]
    assert {n for n, _ in plain[0].named_parameters()} == {n for n, _ in plain[1].named_parameters()}
    assert_same_logits(*plain)


@pytest.mark.filterwarnings("ignore:Already following adapters were merged")
@pytest.mark.filterwarnings("ignore:All adapters are already merged")
@pytest.mark.parametrize("names", [None, ["default"], ["second"]])
def test_what_is_merged_before_and_within_a_block_is_unloaded_as_in_peft(
    base: Any, folder: Path, names: list[str] | None
) -> None:
    theirs, ours = pair(base, folder, "default", FIRST, SECOND)
    for model in (theirs, ours):
        model.merge_adapter(["default"])
    assert_same_logits(*[model.merge_and_unload(adapter_names=names) for model in (theirs, ours)])
    plain = []
    for model in pair(base, folder, "default", FIRST, SECOND):
        with model.disable_adapter():
            plain.append(model.merge_and_unload(adapter_names=names))
    assert_same_logits(*plain)


@pytest.mark.parametrize("bias", ["all", "lora_only"])
def test_trained_biases_and_modules_go_into_the_merged_model_as_in_peft(base: Any, folder: Path, bias: str) -> None:
    config = {**FIRST, "bias": bias, "modules_to_save": ["classifier"]}
    theirs, ours = pair(base, folder, "default", config, None)
    assert_same_logits(theirs, ours)
    assert_same_logits(theirs.merge_and_unload(), ours.merge_and_unload())


def test_where_a_safe_merge_fails_nothing_is_changed_unlike_peft(base: Any, folder: Path) -> None:
    """PEFT has unloaded the layers before the one that is not finite."""
    models = pair(base, folder, "default", FIRST, SECOND)
    before = [name for name, _ in models[1].named_parameters()]
    path = "base_model.model.bert.encoder.layer.1.attention.self.value.lora_B.second.weight"
    models[0].get_parameter(path).data[0, 0] = torch.nan
    weight = dict(models[1].named_parameters())[path]
    weight.data = np.where(np.arange(weight.size).reshape(weight.shape) == 0, np.nan, weight.data)
    for model in models:
        with pytest.raises(ValueError, match="second"):
            model.merge_and_unload(safe_merge=True, adapter_names=["default", "second"])
    assert [name for name, _ in models[1].named_parameters()] == before
    assert_same_logits(pair(base, folder, "default", FIRST, SECOND)[0], models[1])
