"""What ModernBERT's config may ask for, against transformers in float64: windows, biases, means, bases of angles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.parity.encoders import BACKWARD, FORWARD, LABELS, assert_same_logits, batch, ours, reference
from tests.parity.reference import assert_close, assert_same_gradients, tensors, torch

ROPE = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 7.0},
    "full_attention": {"rope_type": "default", "rope_theta": 300.0},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "biases": {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True},
    "no bias at all": {"decoder_bias": False, "hidden_activation": "gelu", "classifier_activation": "silu"},
    "a mean": {"classifier_pooling": "mean", "local_attention": 4},
    "bases": {"rope_parameters": ROPE, "norm_eps": 1e-3},
    "layers by name": {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]},
    "windows wider than the texts": {"local_attention": 64},
}


@pytest.mark.parametrize("head", LABELS)
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_each_variant_of_a_modernbert_agrees(tmp_path: Path, changes: dict[str, Any], head: str) -> None:
    theirs = reference("modernbert", head, tmp_path / "theirs", **changes)
    said = theirs.config.to_dict()
    model, given = ours(head, tmp_path / "theirs"), batch("modernbert")
    output, backward = model(**given, labels=LABELS[head])
    expected = theirs(**tensors(given), labels=torch.tensor(LABELS[head]))
    assert_same_logits(output.logits, expected.logits)
    assert_close(output.loss, expected.loss, FORWARD)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(model, theirs, BACKWARD) >= 22
    model.save_pretrained(tmp_path / "ours")
    again, info = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True, dtype=torch.float64)
    assert not any(info.values())
    assert_same_logits(output.logits, again(**tensors(given)).logits)
    assert {**again.config.to_dict(), "_name_or_path": None} == {**said, "_name_or_path": None}


def test_padding_on_the_left_of_a_modernbert_agrees(tmp_path: Path) -> None:
    theirs = reference("modernbert", "MaskedLM", tmp_path)
    ids, mask = np.array([[0, 0, 7, 3, 44], [5, 9, 12, 31, 2]]), np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    found = ours("MaskedLM", tmp_path)(ids, mask)[0].logits
    expected = theirs(**tensors({"input_ids": ids, "attention_mask": mask})).logits
    assert_close(found[mask == 1], expected[torch.tensor(mask == 1)], FORWARD)
