"""GPT-2's values, which a derivative check does not see: against transformers' (see make_golden_gpt2.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from npora.models import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, GPT2Model
from npora.nn import Cache, Padding
from tests.tiny import spread

GOLDEN = Path(__file__).with_name("golden_gpt2.json")
BATCH = {
    "input_ids": np.array([[7, 3, 10, 9], [6, 0, 0, 0], [5, 5, 8, 0]]),
    "attention_mask": np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0]]),
}
REAL = BATCH["attention_mask"].astype(bool)
LABELS = np.where(REAL, BATCH["input_ids"], -100)
CLASSES = np.array([2, 0, 1])
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled by the layer": {"scale_attn_by_inverse_layer_idx": True, "layer_norm_epsilon": 0.01, "n_inner": None},
    "not scaled": {"scale_attn_weights": False, "activation_function": "relu"},
}


def config(**changes: Any) -> GPT2Config:
    sizes = {"vocab_size": 11, "n_positions": 8, "n_embd": 6, "n_layer": 2, "n_head": 3, "n_inner": 7, "num_labels": 3}
    return GPT2Config(**{**sizes, "pad_token_id": 0, **changes})


def language_model(**changes: Any) -> GPT2LMHeadModel:
    return spread(GPT2LMHeadModel(config(**changes), rng=0, dtype=np.float64))


def classifier(**changes: Any) -> GPT2ForSequenceClassification:
    return spread(GPT2ForSequenceClassification(config(**changes), rng=0, dtype=np.float64))


def assert_close(found: Any, expected: Any) -> None:
    # Two layers, sums of at most 24 terms of size about 1.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_logits_and_losses_are_those_of_transformers() -> None:
    golden = json.loads(GOLDEN.read_text())
    for name, changes in VARIANTS.items():
        output, _ = language_model(**changes)(**BATCH, labels=LABELS)
        assert_close(output.logits[REAL], np.array(golden[name]["logits"])[REAL])
        assert_close(output.loss, golden[name]["loss"])
        classes, _ = classifier(**changes)(**BATCH, labels=CLASSES)
        assert_close(classes.logits, golden[name]["classes"])
        assert_close(classes.loss, golden[name]["classes_loss"])


def test_the_next_tokens_logits_are_those_of_each_last_token_whatever_is_in_the_cache() -> None:
    model = language_model()
    rows = model(**BATCH)[0].logits
    expected = rows[np.arange(3), REAL.sum(axis=1) - 1]
    ids = BATCH["input_ids"]
    assert_close(model.next_logits(ids[REAL], Padding(REAL).packing, Cache()), expected)
    for first in (1, 2):
        mask = REAL & (np.arange(4) < first)
        cache = Cache()
        model.next_logits(ids[mask], Padding(mask).packing, cache)
        cache.select(np.array([0, 2]))
        rest = REAL[[0, 2]] & (np.arange(4) >= first)
        assert_close(model.next_logits(ids[[0, 2]][rest], Padding(rest).packing, cache), expected[[0, 2]])


def test_positions_are_columns_unless_given() -> None:
    model = language_model()
    ids, mask = np.array([[0, 0, 7, 3]]), np.array([[0, 0, 1, 1]])
    assert_close(model(ids, mask)[0].logits[0, 2:], model([[7, 3]], position_ids=[[2, 3]])[0].logits[0])
    given = model(ids, mask, position_ids=[[0, 0, 0, 1]])[0].logits
    assert_close(given[0, 2:], model([[7, 3]])[0].logits[0])
    assert np.abs(given - model(ids, mask)[0].logits).max() > 0.1
    hidden, _ = GPT2Model(config(), rng=0)(ids, mask)
    assert not hidden.last_hidden_state[0, :2].any() and hidden.last_hidden_state[0, 2:].any()


def test_first_values_have_gpt2s_sizes() -> None:
    """N(0, 0.02²), what ends in a residual by 1/√(2 layers) less, biases 0 and norms 1."""
    model = GPT2LMHeadModel(config(n_embd=48, vocab_size=300, initializer_range=0.5, n_layer=3), rng=0)
    for name, parameter in model.named_parameters():
        value = parameter.data
        if name.endswith("bias"):
            assert not value.any()
        elif "ln_" in name:
            assert (value == 1).all()
        else:
            expected = 0.5 / np.sqrt(6) if "c_proj" in name else 0.5
            # Five standard deviations of a sample of this size.
            assert abs(value.std() / expected - 1) < 5 / np.sqrt(2 * value.size), name
