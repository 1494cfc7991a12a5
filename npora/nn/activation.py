"""Activations: element-wise functions that return their value and their pullback."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from npora.machine.blocks import by_rows
from npora.nn.module import Array, Pullback
from npora.nn.normal import normal


def _from_slope(formula: Callable[[Array], tuple[Array, Array]], x: Array) -> tuple[Array, Pullback]:
    """y = f(x) and dx = dy f′(x), of a formula that returns f(x) and f′(x). Only f′(x) is kept."""
    y, slope = by_rows(formula, x)
    return y, lambda dy: dy * slope


def relu(x: Array) -> tuple[Array, Pullback]:
    """y = max(x, 0), dx = dy where x > 0. At 0 the slope is taken to be 0."""
    positive = x.real > 0

    def backward(dy: Array) -> Array:
        return dy * positive

    return x * positive, backward


def tanh(x: Array) -> tuple[Array, Pullback]:
    """y = tanh x, dx = dy (1 − y²), which unlike 1/cosh² cannot overflow."""
    y = np.tanh(x)

    def backward(dy: Array) -> Array:
        dx: Array = dy * (1 - y * y)
        return dx

    return y, backward


def silu(x: Array) -> tuple[Array, Pullback]:
    """y = x σ(x) with σ(x) = 1/(1 + e⁻ˣ) (Elfwing et al., 2017).

    dx = dy (σ + x σ (1 − σ)),  since σ′ = σ (1 − σ)
    """

    def formula(x: Array) -> tuple[Array, Array]:
        sigma = sigmoid(x)
        y = x * sigma
        return y, sigma + y * (1 - sigma)

    return _from_slope(formula, x)


def sigmoid(x: Array) -> Array:
    """1/(1 + e⁻ˣ), to rounding for any x: where e⁻ˣ overflows to infinity, zero."""
    if np.iscomplexobj(x):  # an infinity in the complex plane has no direction, and 1/∞ would be nan
        x = np.maximum(x.real, -700) + 1j * x.imag
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)))


def gelu(x: Array) -> tuple[Array, Pullback]:
    """y = x Φ(x) with Φ(x) = (1 + erf(x/√2))/2, the exact GELU of BERT (Hendrycks and Gimpel, 2016).

    dx = dy (Φ + x φ),  since Φ′ = φ = e^(−x²/2)/√(2π)
    """

    def formula(x: Array) -> tuple[Array, Array]:
        cdf, density = normal(x)
        return x * cdf, cdf + x * density

    return _from_slope(formula, x)


def gelu_tanh(x: Array) -> tuple[Array, Pullback]:
    """y = x (1 + tanh u)/2 with u = √(2/π) (x + 0.044715 x³): GPT-2's and T5's GELU (`gelu_new`, `gelu_pytorch_tanh`).

    Since (1 + tanh u)/2 = σ(2u):  dx = dy (σ + x σ (1 − σ) 2u′),  u′ = √(2/π) (1 + 3·0.044715 x²)
    """

    def formula(x: Array) -> tuple[Array, Array]:
        scale, cubic = 2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715
        square = cubic * (x * x)
        sigma = sigmoid(x * (scale + square))
        y = x * sigma
        return y, sigma + y * (1 - sigma) * (scale + 3 * square)

    return _from_slope(formula, x)


ACTIVATIONS: dict[str, Callable[[Array], tuple[Array, Pullback]]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": relu,
    "silu": silu,
    "tanh": tanh,
}
