"""Label smoothing against transformers' LabelSmoother, class weights against torch's, values and gradients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from npora.train.losses import ClassificationLoss
from tests.parity.reference import torch

trainer_pt_utils = pytest.importorskip("transformers.trainer_pt_utils", reason="needs the extra `parity`")
RNG = np.random.default_rng(3)
SHAPES = {"classes": ((7, 4), False), "tokens": ((3, 5, 4), False), "next tokens": ((3, 5, 4), True)}


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("kind", SHAPES)
def test_label_smoothing_is_transformers(kind: str, epsilon: float) -> None:
    shape, shifted = SHAPES[kind]
    logits, labels = 3 * RNG.standard_normal(shape), RNG.integers(0, 4, shape[:-1])
    labels.flat[[1, 4]] = -100
    theirs = torch.tensor(logits, requires_grad=True)
    expected = trainer_pt_utils.LabelSmoother(epsilon=epsilon)(
        {"logits": theirs}, torch.tensor(labels), shift_labels=shifted
    )
    expected.backward()
    loss, backward, _ = ClassificationLoss(epsilon, None, shifted)(SimpleNamespace(logits=logits), labels)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-6)  # it sums what it smooths with in float32
    np.testing.assert_allclose(backward(), theirs.grad.numpy(), rtol=1e-6, atol=1e-9)


def test_class_weights_are_torchs() -> None:
    logits, labels = 3 * RNG.standard_normal((9, 4)), RNG.integers(0, 4, 9)
    labels[2] = -100
    weights = [0.2, 1.5, 0.0, 3.0]
    theirs = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(
        theirs, torch.tensor(labels), weight=torch.tensor(weights, dtype=torch.float64)
    )
    expected.backward()
    loss, backward, _ = ClassificationLoss(0.0, weights, False)(SimpleNamespace(logits=logits), labels)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-13)
    np.testing.assert_allclose(backward(), theirs.grad.numpy(), atol=1e-14)
