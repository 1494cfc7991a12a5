"""The losses of embeddings and preferences beside torch's own functions: values and gradients in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.nn import functional as F
from tests.parity.reference import assert_close, torch

t = torch.nn.functional


def drawn(*shape: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape)


def assert_same(found: Any, expected: Any, inputs: list[Any]) -> None:
    loss, backward = found
    assert_close(loss, expected, 1e-12)
    expected.backward()
    for gradient, tensor in zip(backward(), inputs, strict=True):
        assert tensor.grad.abs().max() > 1e-4
        assert_close(gradient, tensor.grad, 1e-12)


def leaves(*arrays: Any) -> list[Any]:
    return [torch.tensor(x, requires_grad=True) for x in arrays]


def test_ranking_agrees() -> None:
    u, v = drawn(4, 6, seed=0), drawn(5, 6, seed=1)
    a, b = leaves(u, v)
    z = 20.0 * t.cosine_similarity(a[:, None], b[None], dim=-1)
    assert_same(F.multiple_negatives_ranking_loss(u, v), t.cross_entropy(z, torch.arange(4)), [a, b])


def test_triplets_agree() -> None:
    arrays = [drawn(5, 3, seed=s) for s in range(3)]
    tensors = leaves(*arrays)
    expected = t.triplet_margin_loss(*tensors, margin=1.3, eps=0.0)
    assert_same(F.triplet_loss(*arrays, margin=1.3), expected, tensors)


def test_cosent_agrees() -> None:
    c, s = drawn(6, seed=0), np.round(drawn(6, seed=1))
    (a,) = leaves(c)
    differences = (
        20.0 * (a[None, :] - a[:, None]) - 1e12 * (torch.tensor(s)[:, None] <= torch.tensor(s)[None, :]).double()
    )
    expected = torch.logsumexp(torch.cat((torch.zeros(1).double(), differences.reshape(-1))), dim=0)
    loss, backward = F.cosent_loss(c, s)
    assert_same((loss, lambda: (backward(),)), expected, [a])


def test_dpo_agrees() -> None:
    w, l, w0, l0 = (3 * drawn(4, seed=s) for s in range(4))  # noqa: E741
    a, b = leaves(w, l)
    u = 0.2 * ((a - torch.tensor(w0)) - (b - torch.tensor(l0)))
    expected = (-0.9 * t.logsigmoid(u) - 0.1 * t.logsigmoid(-u)).mean()
    assert_same(F.dpo_loss(w, l, w0, l0, beta=0.2, label_smoothing=0.1), expected, [a, b])


def test_odds_ratios_agree() -> None:
    w, l = (-np.exp(drawn(4, seed=s)) for s in range(2))  # noqa: E741
    a, b = leaves(w, l)
    odds = (a - b) - (torch.log1p(-torch.exp(a)) - torch.log1p(-torch.exp(b)))
    assert_same(F.odds_ratio_loss(w, l), -t.logsigmoid(odds).mean(), [a, b])
