"""Softmax, and the losses that a model is trained by."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.nn import functional as F
from npora.nn.module import Array
from npora.study.exercises.declared import SIZES, Exercise, given, normal, uniform, whole


def softmax(x: Array) -> Array:
    """p_v = e^(x_v) / Σ e^(x_v), the sum over the last axis.    x [n,v]  →  p [n,v]"""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(dp: Array, x: Array) -> Array:
    p = softmax(x)
    return p * (dp - (dp * p).sum(axis=-1, keepdims=True))


def softmax_named(dp: Array, x: Array) -> dict[str, Any]:
    p = softmax(x)
    return {
        "p": p, "1 − p": 1 - p, "the share of the sum": -p * (dp * p).sum(axis=-1, keepdims=True),
        "the gradient as if each p depended on its own x alone": dp * p * (1 - p),
        "the gradient with the sum over the other axis, that of the rows": p * (dp - (dp * p).sum(axis=0)),
        "the gradient with a sum of dp, not times p": p * (dp - dp.sum(axis=-1, keepdims=True)),
        "the gradient with the sum without p before it": p * dp - (dp * p).sum(axis=-1, keepdims=True),
    }  # fmt: skip


def log_softmax(x: Array) -> Array:
    """l_v = x_v − log Σ e^(x_v), the sum over the last axis.    x [n,v]  →  l [n,v]"""
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_softmax_backward(dl: Array, x: Array) -> Array:
    return dl - softmax(x) * dl.sum(axis=-1, keepdims=True)


def log_softmax_named(dl: Array, x: Array) -> dict[str, Any]:
    p = softmax(x)
    return {
        "p = e^l": p, "the share of log Σ e^x": -p * dl.sum(axis=-1, keepdims=True),
        "the gradient of softmax, not of log_softmax": p * (dl - (dl * p).sum(axis=-1, keepdims=True)),
        "the gradient with dl at its own place, not summed": dl - p * dl,
        "the gradient with the sum over the other axis, that of the rows": dl - p * dl.sum(axis=0),
    }  # fmt: skip


def cross_entropy(z: Array, *, targets: Array) -> Array:
    """ℓ = −1/N Σₙ log pₙ[targetsₙ] with p = softmax(z) of each of the N rows.    z [n,v]  targets int [n]  →  ℓ"""
    shifted = z - z.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -log_p[np.arange(len(z)), targets].mean()


def cross_entropy_backward(dloss: Array, z: Array, *, targets: Array) -> Array:
    dz = softmax(z)
    dz[np.arange(len(z)), targets] -= 1
    return dloss * dz / len(z)


def cross_entropy_named(dloss: Array, z: Array, *, targets: Array) -> dict[str, Any]:
    one_hot = np.eye(z.shape[-1])[targets]
    number = max(int((targets >= 0).sum()), 1)
    return {
        "N": len(z), "p": softmax(z), "the share of the target": -dloss * one_hot / number,
        "the gradient with a softmax over the other axis, that of the rows":
            dloss * (softmax(z.T).T - one_hot) / number,
        "the share of log Σ e^z": dloss * softmax(z) / number, "dℓ": float(dloss),
    }  # fmt: skip


def ignored_rows(z: Array, *, targets: Array) -> Array:
    """ℓ = −1/N Σₙ log pₙ[targetsₙ] with p = softmax(z), over the N rows whose target is not −100.

    z [n,v]  targets int [n]  →  ℓ
    """
    shifted = z - z.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    counted = np.flatnonzero(targets != -100)
    return -log_p[counted, targets[counted]].mean()


def ignored_rows_backward(dloss: Array, z: Array, *, targets: Array) -> Array:
    counted = np.flatnonzero(targets != -100)
    dz = np.zeros_like(z)
    dz[counted] = softmax(z[counted])
    dz[counted, targets[counted]] -= 1
    return dloss * dz / len(counted)


def ignored_rows_named(dloss: Array, z: Array, *, targets: Array) -> dict[str, Any]:
    counted = targets != -100
    N = int(counted.sum())
    one_hot = np.eye(z.shape[-1])[np.where(counted, targets, 0)] * counted[:, None]
    ignored = softmax(z) * ~counted[:, None]
    return {
        "N": N, "rows over N": len(z) / N, "N over the ignored rows": N / (len(z) - N),
        "the share of ignored rows": dloss * ignored / N, "dℓ": float(dloss),
        "the share of the target": -dloss * one_hot / N,
        "the share of log Σ e^z": dloss * softmax(z) * counted[:, None] / N,
    }  # fmt: skip


def label_smoothing(z: Array, *, targets: Array, eps: float) -> Array:
    """ℓ = −1/N Σₙ Σ_v qₙ_v log pₙ_v with p = softmax(z), N rows, V classes; q is eps/V, and 1 − eps more at the target.

    z [n,v]  targets int [n]  →  ℓ
    """
    shifted = z - z.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    at_target = log_p[np.arange(len(z)), targets]
    return -((1 - eps) * at_target + eps * log_p.mean(axis=-1)).mean()


def label_smoothing_backward(dloss: Array, z: Array, *, targets: Array, eps: float) -> Array:
    q = np.full(z.shape, eps / z.shape[-1])
    q[np.arange(len(z)), targets] += 1 - eps
    return dloss * (softmax(z) - q) / len(z)


def label_smoothing_named(dloss: Array, z: Array, *, targets: Array, eps: float) -> dict[str, Any]:
    one_hot, each = np.eye(z.shape[-1])[targets] * dloss / len(z), softmax(z) * dloss / len(z)
    even = np.full(z.shape, eps * dloss / z.size)
    return {
        "N": len(z), "dℓ": float(dloss), "the share of the target": -(1 - eps) * one_hot,
        "the gradient with 1, not 1 − eps, more at the target": each - even - one_hot,
        "the gradient with eps, not eps/V, for each class": each - even * z.shape[-1] - (1 - eps) * one_hot,
        "the gradient with eps shared by the other classes alone": each - (1 - eps) * one_hot - (
            (dloss / len(z) - one_hot) * eps / (z.shape[-1] - 1)) * (one_hot == 0),
        "the gradient without smoothing": each - one_hot,
        "the share of log Σ e^z": dloss * softmax(z) / len(z),
        "the even share of all classes": -even,
    }  # fmt: skip


def mse(y: Array, *, target: Array) -> Array:
    """ℓ = mean((y − target)²) over all elements.    y, target [n,o]  →  ℓ"""
    return ((y - target) ** 2).mean()


def mse_backward(dloss: Array, y: Array, *, target: Array) -> Array:
    return dloss * 2 * (y - target) / y.size


def mse_named(dloss: Array, y: Array, *, target: Array) -> dict[str, Any]:
    each = dloss * 2 / y.size
    return {
        "the number of elements": y.size, "dℓ": float(dloss), "y − target": y - target,
        "the share of the target": -each * target, "the share of y": each * y,
    }  # fmt: skip


def binary_cross_entropy(z: Array, *, target: Array) -> Array:
    """ℓ = mean(log(1 + e^z) − target z) over all elements: of p = σ(z), −target log p − (1 − target) log(1 − p).

    z [n,o]  target, each between 0 and 1, [n,o]  →  ℓ
    """
    return (np.log1p(np.exp(z)) - target * z).mean()


def binary_cross_entropy_backward(dloss: Array, z: Array, *, target: Array) -> Array:
    return dloss * (1 / (1 + np.exp(-z)) - target) / z.size


def binary_cross_entropy_named(dloss: Array, z: Array, *, target: Array) -> dict[str, Any]:
    p = 1 / (1 + np.exp(-z))
    return {
        "the number of elements": z.size, "dℓ": float(dloss), "p (1 − p)": p * (1 - p),
        "the gradient with 1 − p in the place of p": dloss * (1 - p - target) / z.size,
        "the share of the target": -dloss * target / z.size, "the share of log(1 + e^z)": dloss * p / z.size,
    }  # fmt: skip


_Z = normal("n v")
_TARGETS = whole("n", "v")
_SOME_IGNORED = given(
    *(np.array([-100 if ignored else int(at) for ignored, at in zip((0, 1, 0, 1, 0), targets, strict=True)])
      for targets in ((2, 0, SIZES["v"] - 1, 3, 2), (0, 1, 4, 0, 1))), axes="n",
)  # fmt: skip

EXERCISES = (
    Exercise(
        softmax_backward,
        "Every p of a row depends on every x of that row, through the sum in its denominator. (Subtracting the row's "
        "maximum changes no p, and so nothing here.)",
        (
            "What is ∂p_u/∂x_v for u = v, and for u ≠ v? Sum dp_u times that over u.",
            "∂p_u/∂x_v = p_u (δ_uv − p_v), where δ_uv is 1 for u = v, and else 0.",
            "Of the sum over u there remain dp_v p_v, and − p_v times one number for each row: Σ_u dp_u p_u.",
        ),
        {"x": _Z},
        softmax,
        dy="n v",
        named=softmax_named,
        page=F.softmax,
    ),
    Exercise(
        log_softmax_backward,
        "Each l of a row depends on its own x, and on every x of the row through the logarithm of the sum.",
        (
            "What is the derivative of log Σ_u e^(x_u) by x_v? You know it by another name.",
            "It is p_v = softmax(x)_v. So ∂l_u/∂x_v = δ_uv − p_v, where δ_uv is 1 for u = v, and else 0.",
            "Sum dl_u times that over u: the second part is p_v times the row's sum of dl.",
        ),
        {"x": _Z},
        log_softmax,
        dy="n v",
        named=log_softmax_named,
        page=F.log_softmax,
    ),
    Exercise(
        cross_entropy_backward,
        "The loss is a single number, and so is its upstream gradient dloss (an array without axes). It need not be 1.",
        (
            "Write −log p at the target as log Σ e^z − z at the target, and differentiate both.",
            "The first gives p = softmax(z), the second −1 at the target's place.",
            "ℓ is a mean over the rows: divide by their number, and multiply by dloss.",
        ),
        {"z": _Z, "targets": _TARGETS},
        cross_entropy,
        dy="",
        named=cross_entropy_named,
        page=F.cross_entropy,
    ),
    Exercise(
        ignored_rows_backward,
        "Padding and prompts have the target −100: such a row is no part of the loss, nor of the mean.",
        (
            "What does ℓ change by when a row whose target is −100 changes?",
            "Such a row of dz is zero. The others are p − 1 at the target and p elsewhere, over N.",
            "N is the number of rows that count. As an index, −100 counts from the end, or is out of range: beware.",
        ),
        {"z": _Z, "targets": _SOME_IGNORED},
        ignored_rows,
        dy="",
        named=ignored_rows_named,
        page=F.cross_entropy,
    ),
    Exercise(
        label_smoothing_backward,
        "The target gets a little less than all, and every class, the target's too, an even share of eps.",
        (
            "The q of a row sum to 1. What is the gradient of −Σ_v q_v log p_v by z, for any such q?",
            "It is p − q: what one-hot q gave was a case of that.",
            "q is eps/V everywhere and 1 − eps + eps/V at the target. Divide by the number of rows.",
        ),
        {"z": _Z, "targets": _TARGETS, "eps": given(0.1, 0.25)},
        label_smoothing,
        dy="",
        named=label_smoothing_named,
        page=F.cross_entropy,
    ),
    Exercise(
        mse_backward,
        "The mean is over all elements of both axes. target is a constant.",
        (
            "What is the derivative of (y − target)² by y?",
            "It is 2 (y − target), and the mean divides it by a number.",
            "The number is that of all elements, y.size.",
        ),
        {"y": normal("n o"), "target": normal("n o")},
        mse,
        dy="",
        named=mse_named,
        page=F.mse_loss,
    ),
    Exercise(
        binary_cross_entropy_backward,
        "The loss is written by the logit z, and not by p, since that is stable; its gradient is simple, too.",
        (
            "What is the derivative of log(1 + e^z)?",
            "It is σ(z) = 1/(1 + e⁻ᶻ).",
            "So of each element σ(z) − target; the mean divides by the number of all elements.",
        ),
        {"z": normal("n o"), "target": uniform("n o")},
        binary_cross_entropy,
        dy="",
        named=binary_cross_entropy_named,
        page=F.binary_cross_entropy,
    ),
)  # fmt: skip
