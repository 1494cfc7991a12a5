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


def relu2(x: Array) -> tuple[Array, Pullback]:
    """y = max(x, 0)² (So et al., 2021), dx = dy 2 max(x, 0)."""
    positive, _ = relu(x)

    def backward(dy: Array) -> Array:
        dx: Array = dy * (2 * positive)
        return dx

    return positive * positive, backward


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


def quick_gelu(x: Array) -> tuple[Array, Pullback]:
    """y = x σ(a x) with a = 1.702, CLIP's approximation of GELU (Hendrycks and Gimpel, 2016).

    dx = dy (σ + a x σ (1 − σ)),  since σ(a x)′ = a σ (1 − σ)
    """

    def formula(x: Array) -> tuple[Array, Array]:
        sigma = sigmoid(1.702 * x)
        y = x * sigma
        return y, sigma + 1.702 * (y * (1 - sigma))

    return _from_slope(formula, x)


def mish(x: Array) -> tuple[Array, Pullback]:
    """y = x t with t = tanh(log(1 + eˣ)) (Misra, 2019).

    log(1 + eˣ) = −log(1 − σ), and tanh(−log q) = (1 − q²)/(1 + q²). With q = 1 − σ neither a logarithm is left, nor
    what could overflow or cancel:

        t = r / (2 − r)  with r = σ (2 − σ)      (1)
        dx = dy (t + x σ (1 − t²))               (2)   since log(1 + eˣ)′ = σ and tanh′ = 1 − tanh²
    """

    def formula(x: Array) -> tuple[Array, Array]:
        sigma = sigmoid(x)
        r = sigma * (2 - sigma)
        t = r / (2 - r)  # (1)
        return x * t, t + x * (sigma * (1 - t * t))  # (2)

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

    `gelu_fast` is this with √(2/π) cut to ten digits, which changes y by 4e-12 |y| at most.

    Since (1 + tanh u)/2 = σ(2u):  dx = dy (σ + x σ (1 − σ) 2u′),  u′ = √(2/π) (1 + 3·0.044715 x²)
    """

    def formula(x: Array) -> tuple[Array, Array]:
        scale, cubic = 2 * math.sqrt(2 / math.pi), 2 * math.sqrt(2 / math.pi) * 0.044715
        square = cubic * (x * x)
        sigma = sigmoid(x * (scale + square))
        y = x * sigma
        return y, sigma + y * (1 - sigma) * (scale + 3 * square)

    return _from_slope(formula, x)


# transformers' names.
ACTIVATIONS: dict[str, Callable[[Array], tuple[Array, Pullback]]] = {
    "gelu": gelu,
    "gelu_accurate": gelu_tanh,
    "gelu_fast": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_python": gelu,
    "gelu_python_tanh": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "mish": mish,
    "quick_gelu": quick_gelu,
    "relu": relu,
    "relu2": relu2,
    "silu": silu,
    "swish": silu,
    "tanh": tanh,
}
