"""AdaLoRA's training against PEFT's: the penalty, each rank's importance, which are cut and when, and the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AdaLoraConfig, PeftModel, get_peft_model
from npora.files import load_file
from tests.parity import reference
from tests.parity.reference import assert_close, npora_bert, reference_bert, tensors, torch
from tests.parity.test_methods import peft_model
from tests.parity.test_peft import peft

FIELDS: dict[str, Any] = {
    "init_r": 4, "target_r": 2, "total_step": 9, "tinit": 2, "tfinal": 2, "deltaT": 2, "lora_alpha": 6,
    "beta1": 0.7, "beta2": 0.6, "orth_reg_weight": 0.3, "target_modules": ["query", "intermediate.dense"],
    "task_type": "SEQ_CLS", "init_lora_weights": False,
}  # fmt: skip


def pair(tmp_path: Path, **changes: Any) -> tuple[Any, Any]:
    """PEFT's model and npora's, with one adapter."""
    config = AdaLoraConfig(**{**FIELDS, **changes})
    theirs = peft_model(reference_bert(tmp_path / "base"), config)
    ours = get_peft_model(npora_bert(tmp_path / "base"), config)
    values = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            parameter.data = values[name].detach().numpy().astype(np.float64).copy()
    return theirs.double().eval(), ours


def step_of_both(theirs: Any, ours: Any, step: int, rate: float = 0.02) -> None:
    """One step of gradient descent, and what comes after it."""
    theirs.zero_grad()
    ours.zero_grad()
    output, backward = ours(**reference.BATCH, labels=reference.LABELS)
    backward()
    loss = theirs(**tensors(reference.BATCH), labels=torch.tensor(reference.LABELS)).loss
    loss.backward()
    assert float(output.loss) + ours.penalty() == pytest.approx(loss.item(), rel=1e-12)
    with torch.no_grad():
        for parameter in theirs.parameters():
            if parameter.requires_grad:
                parameter -= rate * parameter.grad
    for parameter in ours.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data - rate * parameter.grad
    theirs.base_model.update_and_allocate(step)
    ours.after_step(step)


def assert_same_values(ours: Any, theirs: Any) -> None:
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        if parameter.requires_grad:
            assert_close(parameter.data, expected[name], 1e-10)


@pytest.mark.parametrize("changes", [{}, {"deltaT": 1, "tinit": 0, "tfinal": 0, "total_step": 8}])
def test_every_step_leaves_the_numbers_that_pefts_leaves(tmp_path: Path, changes: dict[str, Any]) -> None:
    theirs, ours = pair(tmp_path, **changes)
    kept = []
    for step in range(1, 11):
        step_of_both(theirs, ours, step)
        assert_same_values(ours, theirs)
        kept.append(sum(int(np.count_nonzero(layer.lora_E["default"].data)) for _, layer in ours.lora_layers()))
    assert kept[0] in (16, 13) and kept[-1] == 8


def test_a_trained_adapter_goes_to_peft_and_back(tmp_path: Path) -> None:
    theirs, ours = pair(tmp_path)
    for step in range(1, 10):
        step_of_both(theirs, ours, step)
    theirs.save_pretrained(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    files = [load_file(tmp_path / who / "adapter_model.safetensors") for who in ("ours", "theirs")]
    assert files[0].keys() == files[1].keys()
    for name, array in files[0].items():
        assert_close(array, torch.tensor(np.array(files[1][name])), 1e-10)
    written = [json.loads((tmp_path / who / "adapter_config.json").read_text()) for who in ("ours", "theirs")]
    assert written[0]["rank_pattern"] == written[1]["rank_pattern"] is not None
    expected = ours(**reference.BATCH)[0].logits
    loaded = peft.PeftModel.from_pretrained(reference_bert(tmp_path / "again"), tmp_path / "ours").double().eval()
    assert_close(expected, loaded(**tensors(reference.BATCH)).logits, 1e-10)
    back = PeftModel.from_pretrained(npora_bert(tmp_path / "base"), tmp_path / "theirs")
    np.testing.assert_allclose(back(**reference.BATCH)[0].logits, expected, rtol=0, atol=1e-10)
