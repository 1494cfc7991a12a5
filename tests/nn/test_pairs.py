"""The losses of embeddings and of preferences, at values by hand and by their formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npora.nn import functional as F


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def test_a_cosine_is_that_of_the_angle() -> None:
    u, v = np.array([[3.0, 0.0], [0.0, 2.0]]), np.array([[1.0, math.sqrt(3)], [0.0, -5.0]])
    np.testing.assert_allclose(F.cosine_similarity(u, v)[0], [0.5, -1.0], atol=1e-15)


def test_a_cosine_stays_when_an_embedding_grows() -> None:
    u, v, dc = drawn(4, 5), drawn(4, 5, seed=1), drawn(4, seed=2)
    du, dv = F.cosine_similarity(u, v)[1](dc)
    for x, dx in ((u, du), (v, dv)):
        np.testing.assert_allclose((x * dx).sum(axis=1), 0, atol=1e-14)
        assert np.abs(dx).min(axis=1).max() > 1e-3


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4)])
def test_a_unit_keeps_the_direction_along_the_last_axis(shape: tuple[int, ...]) -> None:
    x, dy = drawn(*shape), drawn(*shape, seed=1)
    y, backward = F.unit(x)
    dx = backward(dy)
    for place in np.ndindex(shape[:-1]):
        length = math.sqrt(x[place] @ x[place])
        np.testing.assert_allclose(y[place], x[place] / length, rtol=1e-14)
        np.testing.assert_allclose(
            dx[place], (dy[place] - y[place] * (y[place] @ dy[place])) / length, rtol=1e-12, atol=1e-15
        )


def test_zeros_have_no_direction() -> None:
    with pytest.raises(ValueError, match="no direction"):
        F.unit(np.array([[1.0, 2.0], [0.0, 0.0]]))


def test_each_anchor_chooses_its_own_among_all_candidates() -> None:
    anchors, candidates = drawn(3, 4), drawn(5, 4, seed=1)
    terms = []
    for n, u in enumerate(anchors):
        z = [7.0 * (u @ v) / math.sqrt((u @ u) * (v @ v)) for v in candidates]
        terms.append(math.log(sum(math.exp(x) for x in z)) - z[n])
    loss, _ = F.multiple_negatives_ranking_loss(anchors, candidates, scale=7.0)
    assert loss == pytest.approx(sum(terms) / 3, rel=1e-12)
    with pytest.raises(ValueError, match="3 anchors have a candidate each; got 2"):
        F.multiple_negatives_ranking_loss(anchors, candidates[:2])


def test_cosines_are_to_lie_in_the_order_of_their_scores() -> None:
    c, s = np.array([0.5, -0.25, 0.75, 0.125]), np.array([2.0, 1.0, 2.0, 0.0])
    sums = sum(math.exp(3 * (c[j] - c[i])) for i in range(4) for j in range(4) if s[i] > s[j])
    loss, backward = F.cosent_loss(c, s, scale=3.0)
    assert loss == pytest.approx(math.log(1 + sums), rel=1e-14)
    dc = backward(2.0)
    assert dc.sum() == pytest.approx(0, abs=1e-14) and dc[0] < 0 < dc[3] and dc[2] > dc[0]
    assert F.cosent_loss(c, np.ones(4))[0] == 0 and not F.cosent_loss(c, np.ones(4))[1]().any()
    assert F.cosent_loss(np.array([-1.0, 1.0]), np.array([1, 0]), scale=1e3)[0] == pytest.approx(2e3)  # no overflow
    with pytest.raises(ValueError, match=r"each cosine has a score; got \(4,\) and \(3,\)"):
        F.cosent_loss(c, s[:3])


def test_a_triplet_beyond_its_margin_is_not_drawn() -> None:
    anchor, near = np.zeros((2, 2)), np.array([[3.0, 4.0], [0.0, 1.0]])
    far = np.array([[0.0, 6.0], [8.0, 6.0]])
    loss, backward = F.triplet_loss(anchor, near, far, margin=2.0)
    assert loss == pytest.approx((5 - 6 + 2 + 0) / 2)
    da, dp, dq = backward(4.0)
    np.testing.assert_allclose(dp, [[1.2, 1.6], [0, 0]], atol=1e-15)
    np.testing.assert_allclose(dq, [[0, -2], [0, 0]], atol=1e-15)
    np.testing.assert_allclose(da, -dp - dq, atol=1e-15)


def test_what_lies_on_its_anchor_has_no_direction_and_no_nan() -> None:
    anchor = drawn(1, 3)
    da, dp, dq = F.triplet_loss(anchor, anchor, anchor + 1.0)[1]()
    assert not dp.any() and np.isfinite(dq).all() and np.isfinite(da).all() and dq.any()


def test_of_a_triplet_alone_the_mean_is_its_own() -> None:
    loss, backward = F.triplet_loss(np.zeros((1, 2)), np.array([[3.0, 4.0]]), np.array([[0.0, 6.0]]), margin=2.0)
    assert loss == pytest.approx(1.0)
    np.testing.assert_allclose(backward()[1], [[0.6, 0.8]], atol=1e-15)


def test_log_probabilities_of_targets() -> None:
    z, targets = drawn(4, 3), np.array([2, -100, 0, 1])
    y, _ = F.target_log_probs(z, targets)
    expected = [z[n, t] - math.log(np.exp(z[n]).sum()) if t >= 0 else 0.0 for n, t in enumerate(targets)]
    np.testing.assert_allclose(y, expected, atol=1e-14)
    with pytest.raises(ValueError, match="target 3 in row 0"):
        F.target_log_probs(z, np.array([3, 0, 0, 0]))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_dpo_is_its_formula(smoothing: float) -> None:
    w, l, w0, l0 = (drawn(3, seed=s) for s in range(4))  # noqa: E741
    terms = []
    for n in range(3):
        u = 0.3 * ((w[n] - w0[n]) - (l[n] - l0[n]))
        terms.append((1 - smoothing) * math.log1p(math.exp(-u)) + smoothing * math.log1p(math.exp(u)))
    loss, backward = F.dpo_loss(w, l, w0, l0, beta=0.3, label_smoothing=smoothing)
    assert loss == pytest.approx(sum(terms) / 3, rel=1e-13)
    dw, dl = backward()
    np.testing.assert_array_equal(dw, -dl)
    assert (dw < 0).all()  # the chosen one is to become likelier
    assert F.dpo_loss(w, l, w, l)[0] == pytest.approx(math.log(2))


def test_an_odds_ratio_is_its_formula() -> None:
    chosen, rejected = -np.exp(drawn(3)), -np.exp(drawn(3, seed=1))
    terms = []
    for w, l in zip(chosen, rejected, strict=True):  # noqa: E741
        p, q = math.exp(w), math.exp(l)
        terms.append(math.log1p(math.exp(-(math.log(p / (1 - p)) - math.log(q / (1 - q))))))
    assert F.odds_ratio_loss(chosen, rejected)[0] == pytest.approx(sum(terms) / 3, rel=1e-12)
    with pytest.raises(ValueError, match="below 0"):
        F.odds_ratio_loss(np.array([0.0]), np.array([-1.0]))
