"""Several adapters that are active at once, as PEFT's base_model.set_adapter has it: outputs, gradients, merging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora import get_peft_model
from tests.parity.both import assert_same_logits, backward
from tests.parity.reference import (
    BATCH,
    assert_close,
    assert_same_gradients,
    npora_bert,
    reference_bert,
    tensors,
    torch,
)
from tests.parity.test_peft import peft
from tests.parity.test_peft_merging import pair

FIRST: dict[str, Any] = {"target_modules": ["query", "value"]}
SECOND: dict[str, Any] = {"target_modules": ["value", "key"]}
KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "LoRA": ("LoraConfig", {"r": 3, "lora_alpha": 5}, {"r": 2, "use_rslora": True}),
    "LoRA, then DoRA": ("LoraConfig", {"r": 3}, {"r": 2, "use_dora": True}),
    "DoRA, then LoRA": ("LoraConfig", {"r": 3, "use_dora": True}, {"r": 2}),
    "DoRA": ("LoraConfig", {"r": 3, "use_dora": True}, {"r": 2, "use_dora": True}),
    "VeRA": ("VeraConfig", {"r": 4}, {"r": 4}),
    "LoHa": ("LoHaConfig", {"r": 2}, {"r": 4}),  # whose scales PEFT holds in float32
    "HiRA": ("HiraConfig", {"r": 2}, {"r": 3}),
    "(IA)³, outputs": ("IA3Config", {"feedforward_modules": []}, {"feedforward_modules": []}),
}


@pytest.mark.parametrize("order", [["default", "second"], ["second", "default"]])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_active_together_is_what_it_is_in_peft(tmp_path: Path, kind: str, order: list[str]) -> None:
    name, first, second = KINDS[kind]
    theirs: Any = peft.get_peft_model(reference_bert(tmp_path), getattr(peft, name)(**FIRST, **first)).eval()
    ours = get_peft_model(npora_bert(tmp_path), getattr(npora, name)(**FIRST, **first))
    theirs.add_adapter("second", getattr(peft, name)(**SECOND, **second))
    ours.add_adapter("second", getattr(npora, name)(**SECOND, **second))
    rng, mine = np.random.default_rng(0), dict(ours.named_parameters())
    for live, parameter in theirs.named_parameters():
        if any(f".{adapter}" in live for adapter in order) and "vera_A" not in live and "vera_B" not in live:
            mine[live].data = mine[live].data + 0.3 * rng.standard_normal(tuple(parameter.shape))
            parameter.data = torch.tensor(mine[live].data)
    theirs.base_model.set_adapter(order)
    ours.set_adapter(order)
    assert_same_logits(ours, theirs)
    backward(ours, theirs)
    assert assert_same_gradients(ours, theirs, 1e-10) >= 8
    ours.merge_adapter()
    assert_same_logits(ours, theirs, 1e-11)
    ours.unmerge_adapter()
    assert_same_logits(ours.merge_and_unload(), theirs.merge_and_unload(), 1e-11)


def test_each_row_of_a_batch_goes_by_its_own_adapter_as_in_peft(tmp_path: Path) -> None:
    theirs, ours = pair(reference_bert(tmp_path), tmp_path, "default", {"r": 3, **FIRST}, {"r": 2, **SECOND})
    for names in (["second", "__base__", "default"], ["default", "default", "second"], ["__base__"] * 3):
        found = ours(**BATCH, adapter_names=names)[0].logits
        assert_close(found, theirs(**tensors(BATCH), adapter_names=names).logits, 1e-12)
