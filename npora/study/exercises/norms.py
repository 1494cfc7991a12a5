"""Norms: what an element gets from all others of its row."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.nn import LayerNorm, RMSNorm
from npora.nn import functional as F
from npora.nn.module import Array
from npora.study.exercises.declared import Exercise, given, normal


def centre(x: Array) -> Array:
    """y = x − mean(x), the mean over the last axis.    x [n,m]  →  y [n,m]"""
    return x - x.mean(axis=-1, keepdims=True)


def centre_backward(dy: Array, x: Array) -> Array:
    return dy - dy.mean(axis=-1, keepdims=True)


def centre_named(dy: Array, x: Array) -> dict[str, Any]:
    return {
        "the share of the mean": np.broadcast_to(-dy.mean(axis=-1, keepdims=True), x.shape),
        "the gradient with the mean over the other axis, that of the rows,": dy - dy.mean(axis=0),
        "the gradient with the mean of all rows": dy - dy.mean(),
    }  # fmt: skip


def normalize(x: Array, *, eps: float) -> Array:
    """y = (x − μ)/σ with μ = mean(x) and σ² = mean((x − μ)²) + eps over the last axis.    x [n,m]  →  y [n,m]"""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)


def normalize_backward(dy: Array, x: Array, *, eps: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    sigma = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    y = centred / sigma
    return (dy - dy.mean(axis=-1, keepdims=True) - y * (dy * y).mean(axis=-1, keepdims=True)) / sigma


def normalize_named(dy: Array, x: Array, *, eps: float) -> dict[str, Any]:
    centred = x - x.mean(axis=-1, keepdims=True)
    sigma = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    y = centred / sigma
    return {
        "1/σ": np.broadcast_to(1 / sigma, x.shape), "σ": np.broadcast_to(sigma, x.shape),
        "the gradient without eps": normalize_backward(dy, x, eps=0.0),
        "the gradient with σ² as a sum over m − 1, not m": _with_fewer(dy, x, eps),
        "the share of the mean": np.broadcast_to(-dy.mean(axis=-1, keepdims=True) / sigma, x.shape),
        "the share of σ": -y * (dy * y).mean(axis=-1, keepdims=True) / sigma,
    }  # fmt: skip


def _with_fewer(dy: Array, x: Array, eps: float) -> Array:
    m = x.shape[-1]
    centred = x - x.mean(axis=-1, keepdims=True)
    sigma = np.sqrt((centred**2).sum(axis=-1, keepdims=True) / (m - 1) + eps)
    y = centred / sigma
    dx: Array = (dy - dy.mean(axis=-1, keepdims=True) - y * (dy * y).mean(axis=-1, keepdims=True)) / sigma
    return dx


def layer_norm(x: Array, gamma: Array, beta: Array, *, eps: float) -> Array:
    """y = γ ⊙ x̂ + β with x̂ = (x − μ)/σ, μ = mean(x), σ² = mean((x − μ)²) + eps over the last axis.

    x [b,t,m]  γ, β [m]  →  y [b,t,m]
    """
    centred = x - x.mean(axis=-1, keepdims=True)
    xhat = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)
    return gamma * xhat + beta


def layer_norm_backward(dy: Array, x: Array, gamma: Array, beta: Array, *, eps: float) -> tuple[Array, Array, Array]:
    xhat = normalize(x, eps=eps)
    return normalize_backward(gamma * dy, x, eps=eps), (dy * xhat).sum(axis=(0, 1)), dy.sum(axis=(0, 1))


def layer_norm_named(dy: Array, x: Array, gamma: Array, beta: Array, *, eps: float) -> dict[str, Any]:
    found = normalize_named(gamma * dy, x, eps=eps)
    xhat = normalize(x, eps=eps)
    return {
        **found, "dgamma without eps": (dy * normalize(x, eps=0.0)).sum(axis=(0, 1)),
        "b·t": x.shape[0] * x.shape[1], "b": len(x), "t": x.shape[1], "x̂": xhat,
        "the sum of dy over all rows": dy.sum(axis=(0, 1)),
        "the sum of dy ⊙ x over all rows": (dy * x).sum(axis=(0, 1)),
        "the gradient without γ": normalize_backward(dy, x, eps=eps),
    }  # fmt: skip


def rms_norm(x: Array, gamma: Array, *, eps: float) -> Array:
    """y = γ ⊙ x/ρ with ρ² = mean(x²) + eps over the last axis.    x [n,m]  γ [m]  →  y [n,m]"""
    return gamma * x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)


def rms_norm_backward(dy: Array, x: Array, gamma: Array, *, eps: float) -> tuple[Array, Array]:
    rho = np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)
    xhat, dxhat = x / rho, gamma * dy
    return (dxhat - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)) / rho, (dy * xhat).sum(axis=0)


def rms_norm_named(dy: Array, x: Array, gamma: Array, *, eps: float) -> dict[str, Any]:
    rho = np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps)
    xhat, dxhat = x / rho, gamma * dy
    return {
        "the gradient without eps": rms_norm_backward(dy, x, gamma, eps=0.0)[0],
        "dgamma without eps": rms_norm_backward(dy, x, gamma, eps=0.0)[1],
        "1/ρ": np.broadcast_to(1 / rho, x.shape), "ρ": np.broadcast_to(rho, x.shape), "gamma": gamma, "n": len(x),
        "the share of ρ": -xhat * (dxhat * xhat).mean(axis=-1, keepdims=True) / rho,
        "the share of the mean (which RMSNorm has not)": np.broadcast_to(
            -dxhat.mean(axis=-1, keepdims=True) / rho, x.shape
        ),
        "the gradient without γ": rms_norm_backward(dy, x, np.ones_like(gamma), eps=eps)[0],
        "the sum of dy ⊙ x over all rows": (dy * x).sum(axis=0),
        "the sum of γ ⊙ dy ⊙ x̂ over all rows": (dxhat * xhat).sum(axis=0),
    }  # fmt: skip


def unit_rows(x: Array) -> Array:
    """y = x/‖x‖ with ‖x‖ = √Σ x² over the last axis.    x [n,m]  →  y [n,m]"""
    return x / np.sqrt((x**2).sum(axis=-1, keepdims=True))


def unit_rows_backward(dy: Array, x: Array) -> Array:
    length = np.sqrt((x**2).sum(axis=-1, keepdims=True))
    y = x / length
    return (dy - y * (dy * y).sum(axis=-1, keepdims=True)) / length


def unit_rows_named(dy: Array, x: Array) -> dict[str, Any]:
    length = np.sqrt((x**2).sum(axis=-1, keepdims=True))
    y = x / length
    return {
        "1/‖x‖": np.broadcast_to(1 / length, x.shape), "‖x‖": np.broadcast_to(length, x.shape),
        "the share of ‖x‖": -y * (dy * y).sum(axis=-1, keepdims=True) / length,
    }  # fmt: skip


_EPS = given(1e-5, 0.3)

EXERCISES = (
    Exercise(
        centre_backward,
        "Each y depends on its own x, and on every x of its row through the mean.",
        (
            "What is ∂mean(x)/∂x_j? It is the same for every j.",
            "It is 1/m for a row of m. So dx_j is dy_j, less 1/m of every dy of the row.",
            "Centring is its own transpose: do to dy what the forward does to x.",
        ),
        {"x": normal("n m")},
        centre,
        dy="n m",
        named=centre_named,
        page=F.normalize,
    ),
    Exercise(
        normalize_backward,
        "Each x acts on its row's y in three ways: itself, through the mean μ, and through the deviation σ. This is "
        "what LayerNorm is made of.",
        (
            "Find ∂μ/∂x_j and ∂σ/∂x_j first. For σ, differentiate σ² = mean((x − μ)²) + eps.",
            "∂μ/∂x_j = 1/m and ∂σ/∂x_j = y_j/m: the mean in (x − μ)² does not count, since Σ (x − μ) = 0.",
            "All three shares have the factor 1/σ. Two are means over the row, one of dy, one of dy ⊙ y; the second "
            "is multiplied by y.",
        ),
        {"x": normal("n m"), "eps": _EPS},
        normalize,
        dy="n m",
        named=normalize_named,
        page=F.normalize,
    ),
    Exercise(
        layer_norm_backward,
        "The exercise `normalize`, with a scale γ and a shift β behind it, which all rows share. Rows lie on two axes.",
        (
            "γ and β are used by every row: their gradients are sums over all rows, of both axes.",
            "dβ sums dy, and dγ sums dy ⊙ x̂. What is dx̂?",
            "dx̂ = γ ⊙ dy; then dx is as in `normalize`, with dx̂ in the place of its dy.",
        ),
        {"x": normal("b t m"), "gamma": normal("m"), "beta": normal("m"), "eps": _EPS},
        layer_norm,
        dy="b t m",
        named=layer_norm_named,
        page=LayerNorm,
    ),
    Exercise(
        rms_norm_backward,
        "As LayerNorm without a mean and without a shift: what is left acts through itself and through ρ.",
        (
            "Let x̂ = x/ρ, dx̂ = γ ⊙ dy, and find ∂ρ/∂x_j from ρ² = mean(x²) + eps.",
            "∂ρ/∂x_j = x̂_j/m for a row of m.",
            "dx has the factor 1/ρ and two shares, dx̂ and x̂ times a mean over the row. dγ sums over the rows.",
        ),
        {"x": normal("n m"), "gamma": normal("m"), "eps": _EPS},
        rms_norm,
        dy="n m",
        named=rms_norm_named,
        page=RMSNorm,
    ),
    Exercise(
        unit_rows_backward,
        "Rows are brought to length 1, as before a cosine similarity: of dy, what points along y is lost.",
        (
            "What is ∂‖x‖/∂x_j?",
            "It is y_j. So dx_j = dy_j/‖x‖ less something that has y_j in it.",
            "Less y_j times the row's Σ dy ⊙ y, also over ‖x‖: a sum, for the length is one.",
        ),
        {"x": normal("n m")},
        unit_rows,
        dy="n m",
        named=unit_rows_named,
        page=F.rms_normalize,
    ),
)
