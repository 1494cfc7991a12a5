"""The functions without parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.catalogue.row import Draw, Drawn, Draws, Row, call
from npora.nn import functional as F

KEY_MASK = np.array([[True, True, False, True, False], [True, False, False, True, False]])
TARGETS = np.array([2, -100, 0, 3, 3])


def element_wise(function: Any) -> Draws:
    return lambda d: call(function, d.scaled(*d.sizes(3)))


def masked_softmax(d: Draw) -> Drawn:
    n, s = d.sizes(2)
    mask = d.rng.random((n, s)) < 0.7
    mask[:, 0] = True
    return call(F.softmax, d.scaled(n, s), mask=mask)


def cross_entropy(d: Draw) -> Drawn:
    n, v = d.sizes(2)
    targets = d.rng.integers(0, v, n)
    targets[1:][d.rng.random(n - 1) < 0.3] = -100
    return call(F.cross_entropy, d.scaled(n, v), targets=targets, label_smoothing=0.1)


def certain_classes(d: Draw) -> Drawn:
    """p − 1 is about e⁻³⁰: nothing of it is left beside 1."""
    return call(F.cross_entropy, d.scaled(5, 4) + 30 * np.eye(4)[TARGETS.clip(0)], targets=TARGETS)


def binary_cross_entropy(d: Draw) -> Drawn:
    """The truth is in any sign of the logits."""
    shape = d.sizes(2)
    return call(F.binary_cross_entropy, 3 * d.scaled(*shape), targets=d.normal(*shape) > 0.1)


def certain_truth(d: Draw) -> Drawn:
    signs = np.sign(d.scaled(3, 5))
    return call(F.binary_cross_entropy, 30 * signs, targets=signs > 0)


def mse_loss(d: Draw) -> Drawn:
    shape = d.sizes(2)
    return call(F.mse_loss, d.scaled(*shape), target=d.normal(*shape))


def swiglu(d: Draw) -> Drawn:
    shape = d.sizes(3)
    return call(F.swiglu, d.scaled(*shape), d.scaled(*shape))


def rotary(d: Draw) -> Drawn:
    n, h, half = d.sizes(3)
    turn = F.rotation(d.rng.integers(0, 9, n), F.frequencies(2 * half, 50.0), np.float64)
    return call(F.rotary, d.scaled(n, h * 2 * half), turn=turn, heads=h)


def part_of_rotary(d: Draw) -> Drawn:
    """What stands behind the features that are turned stays."""
    n, h, half, rest = d.sizes(4)
    turn = F.rotation(d.rng.integers(0, 9, n), F.frequencies(2 * half, 50.0), np.float64)
    return call(F.rotary, d.scaled(n, h * (2 * half + rest)), turn=turn, heads=h)


def attention(d: Draw) -> Drawn:
    b, h, t, s, k, v = d.sizes(6)
    mask = d.rng.random((b, 1, t, s)) < 0.8
    mask[..., 0] = True
    return call(F.attention, d.scaled(b, h, t, k), d.normal(b, h, s, k), d.normal(b, h, s, v), mask=mask)


def attention_with_everything(d: Draw) -> Drawn:
    def function(q: Any, k: Any, v: Any, bias: Any, **keywords: Any) -> Any:
        return F.attention(q, k, v, bias=bias, **keywords)

    inputs = d.scaled(2, 3, 4, 6), d.normal(2, 3, 5, 6), d.normal(2, 3, 5, 7), d.normal(3, 1, 5)
    mask = KEY_MASK[:, None, None]
    return call(function, *inputs, mask=mask, scale=0.7, dropout_p=0.3, rng=np.random.default_rng(3))


def target_log_probs(d: Draw) -> Drawn:
    n, v = d.sizes(2)
    targets = d.rng.integers(0, v, n)
    targets[1:][d.rng.random(n - 1) < 0.3] = -100
    return call(F.target_log_probs, d.scaled(n, v), targets=targets)


def preferences(d: Draw) -> Drawn:
    """Log-probabilities of whole answers, in the tens."""
    (n,) = d.sizes(1)
    keywords = {"reference_chosen": d.normal(n), "reference_rejected": d.normal(n), "beta": 0.4, "label_smoothing": 0.1}
    return call(F.dpo_loss, d.scaled(n), d.scaled(n), **keywords)


def odds(d: Draw) -> Drawn:
    (n,) = d.sizes(1)
    return call(F.odds_ratio_loss, -np.exp(0.5 * d.normal(n)), -np.exp(0.5 * d.normal(n)))


def choices(d: Draw) -> Drawn:
    """More candidates than anchors."""
    n, more, m = d.sizes(3)
    return call(F.multiple_negatives_ranking_loss, d.scaled(n, m), d.scaled(n + more, m), scale=3.0)


def ordered(d: Draw) -> Drawn:
    """Some scores are equal."""
    (n,) = d.sizes(1)
    return call(F.cosent_loss, d.scaled(n), scores=np.round(d.normal(n)), scale=3.0)


def triplets(d: Draw) -> Drawn:
    """Some of them are within the margin, and some are not."""
    n, m = d.sizes(2)
    anchor, near = d.scaled(n, m), d.scaled(n, m)
    far = anchor + np.where(np.arange(n) % 3 == 2, 9.0, 0.5)[:, None] * d.scaled(n, m)
    return call(F.triplet_loss, anchor, near, far, margin=0.7 * d.scale)


ROWS = [
    Row("relu", element_wise(F.relu), row_wise=True),
    Row("tanh", element_wise(F.tanh), row_wise=True),
    Row("silu", element_wise(F.silu), row_wise=True),
    Row("silu, far from zero", lambda d: call(F.silu, 500 * d.scaled(3, 5)), row_wise=True),
    Row("gelu", element_wise(F.gelu), row_wise=True),
    Row("gelu_tanh", element_wise(F.gelu_tanh), row_wise=True),
    Row("quick_gelu", element_wise(F.quick_gelu), row_wise=True),
    Row("mish", element_wise(F.mish), row_wise=True),
    Row("mish, far from zero", lambda d: call(F.mish, 500 * d.scaled(3, 5)), row_wise=True),
    Row("relu2", element_wise(F.relu2), row_wise=True),
    Row("softmax", masked_softmax),
    Row("softmax, without a mask", element_wise(F.softmax), row_wise=True),
    Row("softmax, huge logits", lambda d: call(F.softmax, 800 + d.scaled(3, 5)), row_wise=True),
    Row("log_softmax", element_wise(F.log_softmax), row_wise=True),
    Row("log_softmax, huge logits", lambda d: call(F.log_softmax, 800 + d.scaled(3, 5)), row_wise=True),
    Row("normalize", lambda d: call(F.normalize, d.scaled(*d.sizes(3)), eps=1e-5), row_wise=True),
    Row("rms_normalize", lambda d: call(F.rms_normalize, d.scaled(*d.sizes(3)), eps=1e-5), row_wise=True),
    Row("dropout", lambda d: call(F.dropout, d.scaled(*d.sizes(2)), p=0.3, rng=np.random.default_rng(6))),
    Row("cross_entropy", cross_entropy),
    Row("cross_entropy, not smoothed", lambda d: call(F.cross_entropy, d.scaled(5, 4), targets=TARGETS)),
    Row("cross_entropy, huge logits", lambda d: call(F.cross_entropy, 800 + d.scaled(5, 4), targets=TARGETS)),
    Row("cross_entropy, certain", certain_classes),
    Row("binary_cross_entropy", binary_cross_entropy),
    Row("binary_cross_entropy, certain", certain_truth),
    Row("mse_loss", mse_loss),
    Row("target_log_probs", target_log_probs),
    Row("dpo_loss", preferences),
    Row("odds_ratio_loss", odds),
    Row("unit", element_wise(F.unit), row_wise=True),
    Row("cosine_similarity", lambda d: call(F.cosine_similarity, *(d.scaled(*size) for size in [d.sizes(2)] * 2))),
    Row("multiple_negatives_ranking_loss", choices),
    Row("triplet_loss", triplets),
    Row("cosent_loss", ordered),
    Row("swiglu", swiglu),
    Row("rotary", rotary),
    Row("rotary, in part", part_of_rotary),
    Row("scaled_attention", attention),
    Row(
        "scaled_attention, without a mask",
        lambda d: call(F.attention, d.scaled(2, 3, 4, 6), d.normal(2, 3, 5, 6), d.normal(2, 3, 5, 7)),
    ),
    Row("scaled_attention, everything", attention_with_everything),
]
