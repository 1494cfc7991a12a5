"""Losses: scalars ℓ whose pullback takes dℓ (1 by default) and returns the gradient of the prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npora.nn.module import Array, Identities, Named, declares
from npora.nn.softmax import log_softmax

LossPullback = Callable[..., Array]


def _rows_sum_to_zero(inputs: Named, gradients: Named) -> Identities:
    yield "Σ dz = 0", gradients["logits"]


@declares(_rows_sum_to_zero)
def cross_entropy(
    logits: Array, targets: Array, *, ignore_index: int = -100, label_smoothing: float = 0.0
) -> tuple[Any, LossPullback]:
    """ℓ = −1/N Σₙ Σ_v qₙ_v log pₙ_v over the N rows whose target is not `ignore_index`, with p = softmax(logits).

    logits [n,v]  targets int [n]  →  ℓ scalar. q is one-hot at the target, smoothed to (1 − ε) q + ε/v with
    ε = label_smoothing (Szegedy et al., 2016). Since Σ_v q_v = 1,

        dz = dℓ (p − q) / N

    Identity: each row of dz sums to 0, and an ignored row is 0. With no row left ℓ is 0 (torch gives nan).

    Raises
    ------
    ValueError: a target that is neither ignored nor in [0, v); it names the row.
    """
    rows, classes = logits.shape
    targets = np.asarray(targets)
    if targets.shape != (rows,) or not np.issubdtype(targets.dtype, np.integer):
        raise ValueError(f"expected {rows} integer targets, got shape {targets.shape} of {targets.dtype}")
    counted = targets != ignore_index
    if (wrong := np.flatnonzero(counted & ((targets < 0) | (targets >= classes)))).size:
        row = int(wrong[0])
        raise ValueError(f"target {targets[row]} in row {row} is not one of the {classes} classes 0 … {classes - 1}")
    log_p, _ = log_softmax(logits)  # [n,v]
    q = np.full(logits.shape, label_smoothing / classes, dtype=logits.dtype)
    q[np.flatnonzero(counted), targets[counted]] += 1 - label_smoothing
    q[~counted] = 0
    number = max(int(counted.sum()), 1)

    def backward(dloss: Any = 1.0) -> Array:
        dz = np.exp(log_p)
        dz -= q
        dz[~counted] = 0
        dz *= np.asarray(dloss / number, dtype=dz.dtype)
        return dz

    return -(q * log_p).sum() / number, backward


def mse_loss(prediction: Array, target: Array) -> tuple[Any, LossPullback]:
    """ℓ = 1/N Σ (y − t)² over all N elements;  dy = dℓ · 2 (y − t) / N."""
    target = np.asarray(target, dtype=prediction.dtype)
    if prediction.shape != target.shape:
        raise ValueError(f"the prediction has shape {prediction.shape}, the target {target.shape}: they must agree")
    difference = prediction - target
    number = max(difference.size, 1)

    def backward(dloss: Any = 1.0) -> Array:
        dy: Array = difference * np.asarray(2 * dloss / number, dtype=difference.dtype)
        return dy

    return (difference * difference).sum() / number, backward
