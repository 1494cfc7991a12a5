"""BERT's values, which a derivative check does not see: against transformers' (see make_golden.py) and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from npora.models.losses import classification_loss
from tests.tiny import tiny_bert, tiny_peft

GOLDEN = Path(__file__).with_name("golden_bert.json")
BATCH = {
    "input_ids": np.array([[7, 3, 24, 9], [30, 0, 0, 0], [5, 5, 29, 0]]),
    "attention_mask": np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]]),
    "token_type_ids": np.array([[0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0]]),
}
LABELS = np.array([2, 0, 1])


def test_logits_and_loss_are_those_of_transformers() -> None:
    expected = json.loads(GOLDEN.read_text())
    output, _ = tiny_bert(dtype=np.float64)(**BATCH, labels=LABELS)
    # Two layers, sums of at most 7 terms of size about 1.
    np.testing.assert_allclose(output.logits, expected["logits"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(output.loss, expected["loss"], rtol=0, atol=1e-12)


def test_without_a_mask_every_token_is_real_and_of_type_0() -> None:
    model, ids = tiny_bert(), BATCH["input_ids"]
    explicit = model(ids, np.ones_like(ids), np.zeros_like(ids))[0].logits
    assert model(ids)[0].logits.tobytes() == explicit.tobytes()


def test_a_sequence_may_fill_every_position() -> None:
    model = tiny_bert()
    assert model(np.ones((1, 12), int))[0].logits.shape == (1, 3)
    assert model(np.array([[1] * 12 + [0]]), np.array([[1] * 12 + [0]]))[0].logits.shape == (1, 3)


def test_one_output_is_a_regression_and_labels_are_counted() -> None:
    logits = np.array([[1.0], [4.0]])
    for labels in (np.array([0.0, 2.0]), np.array([[0.0], [2.0]])):
        loss, backward, count = classification_loss(logits, labels)
        assert loss == 2.5 and count == 2 and backward().tolist() == [[1.0], [2.0]]
    _, _, count = classification_loss(np.zeros((4, 3)), np.array([0, -100, 2, -100]))
    assert count == 2


def test_what_is_said_to_be_idle_is_there_whatever_the_adapter_is_on() -> None:
    for target in ("query", "key", "value"):
        layer: Any = tiny_peft(target_modules=[target]).base_model.model.bert.encoder.layer[0].attention.self
        assert list(layer.idle_parameters()) == ["key.base_layer.bias" if target == "key" else "key.bias"]
