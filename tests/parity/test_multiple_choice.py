"""Multiple choice of the encoders against transformers and PEFT, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, PeftModel, get_peft_model
from tests.parity.encoders import BACKWARD, FORWARD, FROM_PADDING, every_family, ours, reference
from tests.parity.reference import assert_close, assert_same_gradients, tensors, torch, transformers
from tests.parity.test_encoder_adapters import TARGETS
from tests.parity.test_peft import randomize

MASK = np.array(
    [[[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], [[1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]]
)
LABELS = np.array([2, 0])
NO_DROPOUT = {"electra": {"summary_last_dropout": 0.0}, "modernbert": {"classifier_pooling": "mean"}}


def batch(family: str) -> dict[str, Any]:
    ids = np.random.default_rng(1).integers(4, 50, MASK.shape)
    types = {"token_type_ids": ids % 2} if family in ("bert", "electra", "deberta-v2") else {}
    return {
        "input_ids": np.where(MASK == 1, ids, 1 if family in FROM_PADDING else 0), "attention_mask": MASK, **types,
    }  # fmt: skip


@every_family
def test_logits_and_every_gradient_agree_and_files_go_both_ways(tmp_path: Path, family: str) -> None:
    theirs = reference(family, "MultipleChoice", tmp_path / "theirs", **NO_DROPOUT.get(family, {}))
    model = ours("MultipleChoice", tmp_path / "theirs")
    output, backward = model(**batch(family), labels=LABELS)
    expected = theirs(**tensors(batch(family)), labels=torch.tensor(LABELS))
    assert_close(output.logits, expected.logits, FORWARD)
    assert_close(output.loss, expected.loss, FORWARD)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(model, theirs, BACKWARD) > 22
    model.save_pretrained(tmp_path / "ours")
    again = transformers.AutoModelForMultipleChoice.from_pretrained(tmp_path / "ours", dtype=torch.float64).eval()
    assert type(again).__name__ == type(model).__name__
    assert_close(output.logits, again(**tensors(batch(family))).logits, FORWARD)


@every_family
def test_adapters_go_from_peft_and_back(tmp_path: Path, family: str) -> None:
    peft = pytest.importorskip("peft", reason="needs the extra `parity`")
    base = reference(family, "MultipleChoice", tmp_path / "base", **NO_DROPOUT.get(family, {}))
    fields: dict[str, Any] = {"r": 3, "lora_alpha": 5, "target_modules": TARGETS[family], "task_type": "SEQ_CLS"}
    theirs = randomize(peft.get_peft_model(base, peft.LoraConfig(**fields)))
    theirs.save_pretrained(tmp_path / "adapter")
    model = PeftModel.from_pretrained(
        ours("MultipleChoice", tmp_path / "base"), tmp_path / "adapter", is_trainable=True
    )
    output, backward = model(**batch(family), labels=LABELS)
    expected = theirs.eval()(**tensors(batch(family)), labels=torch.tensor(LABELS))
    assert_close(output.logits, expected.logits, FORWARD)
    backward()
    expected.loss.backward()
    gradients = {name: p.grad for name, p in theirs.named_parameters() if p.requires_grad}
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert found.keys() == gradients.keys() and any("classifier" in name for name in found)
    for name, parameter in found.items():
        assert_close(parameter.grad, gradients[name], BACKWARD)
    mine = get_peft_model(ours("MultipleChoice", tmp_path / "base"), LoraConfig(**fields))
    for number, parameter in enumerate(mine.parameters()):
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.3 * np.random.default_rng(number).standard_normal(parameter.shape)
    mine.save_pretrained(tmp_path / "mine")
    fresh = getattr(transformers, type(base).__name__).from_pretrained(tmp_path / "base", dtype=torch.float64)
    back = peft.PeftModel.from_pretrained(fresh, tmp_path / "mine").eval()
    assert_close(mine(**batch(family))[0].logits, back(**tensors(batch(family))).logits, FORWARD)
