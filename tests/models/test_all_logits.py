"""The logits of all rows beside a loss, which alone reads the rows that have a label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora import no_grad
from npora.models import BertConfig, BertForMaskedLM
from npora.nn import cross_entropy
from tests.models.test_generation_families import FAMILIES
from tests.tiny import SIZES

MODELS: dict[str, Callable[[], Any]] = {
    **FAMILIES,
    "bert": lambda: BertForMaskedLM(BertConfig(**SIZES), rng=0),
}
IDS = np.array([[3, 5, 2, 7, 4], [6, 2, 8, 0, 0], [9, 4, 0, 0, 0]])
BATCH = {"input_ids": IDS, "attention_mask": (IDS > 0).astype(int)}
LABELS = np.array([[-100, -100, 2, -100, 4], [-100, 2, 8, -100, -100], [-100, -100, -100, -100, -100]])


def made(name: str) -> Any:
    model = MODELS[name]()
    rng = np.random.default_rng(4)
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float64) + 0.4 * rng.standard_normal(parameter.shape)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_they_are_there_beside_a_loss_as_without_it(name: str) -> None:
    model, labels = made(name), LABELS if name != "t5" else LABELS[:2]
    batch = {key: value[: len(labels)] for key, value in BATCH.items()}
    lazy, _ = model(**batch, labels=labels)
    eager, _ = model(**batch, labels=labels, all_logits=True)
    assert lazy.num_items == eager.num_items
    np.testing.assert_allclose(lazy.loss, eager.loss, rtol=1e-13)
    if name != "t5":
        np.testing.assert_allclose(lazy.logits, model(**batch)[0].logits, rtol=0, atol=1e-12)
    np.testing.assert_allclose(lazy.logits, eager.logits, rtol=0, atol=1e-12)
    assert np.abs(eager.logits[0]).min(axis=-1).all(), "no row of a whole sequence is left at zero"


@pytest.mark.parametrize("name", MODELS)
def test_every_gradient_is_that_of_the_loss_of_all_rows(name: str) -> None:
    model, labels = made(name), LABELS if name != "t5" else LABELS[:2]
    batch = {key: value[: len(labels)] for key, value in BATCH.items()}
    gradients = []
    for all_logits in (False, True):
        model.zero_grad()
        model(**batch, labels=labels, all_logits=all_logits)[1](1.7)
        gradients.append({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for key, found in gradients[0].items():
        np.testing.assert_allclose(found, gradients[1][key], rtol=0, atol=1e-11, err_msg=key)


def test_with_dropout_they_are_those_that_the_loss_saw() -> None:
    model = made("bert")
    output, _ = model(**BATCH, labels=LABELS, all_logits=True, rng=np.random.default_rng(3))
    marks = LABELS != -100
    loss, _ = cross_entropy(output.logits[marks], LABELS[marks])
    np.testing.assert_allclose(output.loss, loss, rtol=1e-12)
    assert np.abs(output.logits - model(**BATCH)[0].logits).max() > 0.01


def test_asked_for_later_they_drop_nothing_out_and_the_modes_stay() -> None:
    model = made("bert")
    model.train()
    model.bert.encoder.layer[0].eval()
    modes = [module.training for module in model.modules()]
    output, backward = model(**BATCH, labels=LABELS, rng=np.random.default_rng(3))
    found = output.logits
    assert [module.training for module in model.modules()] == modes and len(set(modes)) == 2
    backward()
    np.testing.assert_array_equal(found, model.eval()(**BATCH)[0].logits)


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"t5"}))
@pytest.mark.parametrize("all_logits", [False, True])
def test_no_label_at_all_is_a_loss_of_nothing_and_no_gradient(name: str, all_logits: bool) -> None:
    model = made(name)
    output, backward = model(**BATCH, labels=np.full(IDS.shape, -100), all_logits=all_logits)
    backward()
    assert output.num_items == 0 and output.loss == 0
    assert not any(p.grad is not None and p.grad.any() for p in model.parameters())
    with no_grad():
        np.testing.assert_allclose(output.logits, model(**BATCH)[0].logits, rtol=0, atol=1e-12)
