"""Losses: scalars ℓ whose pullback takes dℓ (1 by default) and returns the gradient of the prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npora.nn.module import Array

LossPullback = Callable[..., Array]


def mse_loss(prediction: Array, target: Array) -> tuple[Any, LossPullback]:
    """ℓ = 1/N Σ (y − t)² over all N elements;  dy = dℓ · 2 (y − t) / N."""
    target = np.asarray(target, dtype=prediction.dtype)
    if prediction.shape != target.shape:
        raise ValueError(f"the prediction has shape {prediction.shape}, the target {target.shape}: they must agree")
    difference = prediction - target
    number = max(difference.size, 1)

    def backward(dloss: Any = 1.0) -> Array:
        return difference * np.asarray(2 * dloss / number, dtype=difference.dtype)

    return (difference * difference).sum() / number, backward


def binary_cross_entropy(logits: Array, targets: Array) -> tuple[Any, LossPullback]:
    """ℓ = −1/N Σ (t log σ(z) + (1 − t) log(1 − σ(z))) over all N elements: each is a yes or no of its own.

        dz = dℓ (σ(z) − t) / N = dℓ ((1 − t) σ(z) − t σ(−z)) / N

    Computed as max(z, 0) − t z + log(1 + e^(−|z|)), which cannot overflow; the second form of dz keeps its digits where
    the answer is nearly certain.
    """
    targets = np.asarray(targets, dtype=logits.dtype)
    if logits.shape != targets.shape:
        raise ValueError(f"the logits have shape {logits.shape}, the targets {targets.shape}: they must agree")
    number = max(logits.size, 1)
    positive = logits.real > 0
    tail = np.exp(-np.where(positive, logits, -logits))  # e^(−|z|), in a form that complex steps see through

    def backward(dloss: Any = 1.0) -> Array:
        near, far = 1 / (1 + tail), tail / (1 + tail)  # σ(|z|), σ(−|z|)
        dz = np.where(positive, (1 - targets) * near - targets * far, (1 - targets) * far - targets * near)
        dz *= np.asarray(dloss / number, dtype=dz.dtype)
        return dz

    return (logits * positive - targets * logits + np.log1p(tail)).sum() / number, backward
