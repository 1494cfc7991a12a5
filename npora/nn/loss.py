"""Losses: scalars ℓ whose pullback takes dℓ (1 by default) and returns the gradient of the prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npora.nn.module import Array, Identities, Named, declares

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

        dz = dℓ (p − q) / N                                                                                   (1)

    With m the largest of a row and R = Σ_{v≠m} e^(z_v − z_m), log p_v = z_v − z_m − log(1 + R), p_m − 1 = −R/(1 + R):
    so written, a nearly certain answer keeps its digits. Identity: each row of dz sums to 0, and an ignored row is 0.
    With no row left ℓ is 0 (torch gives nan).

    Raises
    ------
    ValueError: shapes that do not fit; a target that is neither ignored nor in [0, v), with its row.
    """
    logits, targets = np.asarray(logits), np.asarray(targets)
    _check_shapes(logits, targets)
    rows, classes = logits.shape
    counted = targets != ignore_index
    if (wrong := np.flatnonzero(counted & ((targets < 0) | (targets >= classes)))).size:
        row = int(wrong[0])
        raise ValueError(f"target {targets[row]} in row {row} is not one of the {classes} classes 0 … {classes - 1}")
    on = np.flatnonzero(counted), targets[counted]  # where q is more than ε/v
    number, smooth = max(len(on[0]), 1), label_smoothing
    largest = np.arange(rows), logits.real.argmax(axis=-1)
    z = logits - logits[largest][:, None]  # [n,v]
    nll = -(1 - smooth) * z[on]  # −Σ_v q log p
    if smooth:
        nll -= smooth * z[counted].mean(axis=-1)
    p = np.exp(z, out=z)
    p[largest] = 0
    rest = p.sum(axis=-1, keepdims=True)  # R [n,1]
    p[largest] = 1
    p /= 1 + rest
    nll += np.log1p(rest[counted, 0])

    def backward(dloss: Any = 1.0) -> Array:
        dz: Array = p.copy()
        dz[on] -= 1 - smooth  # (1)
        right = np.flatnonzero(targets == largest[1])
        dz[right, targets[right]] = smooth - rest[right, 0] / (1 + rest[right, 0])  # (1) where p is p_m
        if smooth:
            dz -= smooth / classes
        dz[~counted] = 0
        dz *= np.asarray(dloss / number, dtype=dz.dtype)
        return dz

    return nll.sum() / number, backward


def _check_shapes(logits: Array, targets: Array) -> None:
    """Raise ValueError, with what to do, unless logits are [n,v] and targets whole numbers [n]."""
    came = f"cross_entropy takes logits [n,v] and integer targets [n]; got {_said(logits)} and {_said(targets)}"
    if logits.dtype.kind not in "fc":
        raise ValueError(f"{came}: expected logits of floating point: pass logits.astype(float)")
    if logits.ndim != 2:
        flat = "(1, -1)" if logits.ndim < 2 else f"(-1, {logits.shape[-1]})"
        raise ValueError(f"{came}: pass logits.reshape{flat} and targets.reshape(-1)")
    whole = np.issubdtype(targets.dtype, np.integer)
    if targets.shape == (len(logits),):
        if not whole:
            raise ValueError(f"{came}: expected integer targets, the classes' numbers: pass targets.astype(np.int64)")
    elif targets.shape == logits.shape and not (whole and targets.size == len(logits)):
        raise ValueError(f"{came}: for one target in a row pass targets.argmax(-1), for several binary_cross_entropy")
    elif targets.size == len(logits):
        raise ValueError(f"{came}: pass targets.reshape(-1)")
    else:
        raise ValueError(f"{came}: expected {len(logits)} integer targets, one for each row")


def _said(x: Array) -> str:
    return f"{x.dtype}[{','.join(map(str, x.shape))}]"


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
        dz: Array = np.where(positive, (1 - targets) * near - targets * far, (1 - targets) * far - targets * near)
        dz *= np.asarray(dloss / number, dtype=dz.dtype)
        return dz

    return (logits * positive - targets * logits + np.log1p(tail)).sum() / number, backward
