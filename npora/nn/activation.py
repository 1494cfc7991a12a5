"""Activations: element-wise functions that return their value and their pullback."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from npora.machine.blocks import in_blocks
from npora.nn.module import Array, Pullback
from npora.nn.normal import normal


def relu(x: Array) -> tuple[Array, Pullback]:
    """y = max(x, 0), dx = dy where x > 0. At 0 the slope is taken to be 0."""
    positive = x.real > 0
    return x * positive, lambda dy: dy * positive


def tanh(x: Array) -> tuple[Array, Pullback]:
    """y = tanh x, dx = dy (1 − y²), which unlike 1/cosh² cannot overflow."""
    y = np.tanh(x)
    return y, lambda dy: dy * (1 - y * y)


@in_blocks
def silu(x: Array) -> tuple[Array, Pullback]:
    """y = x σ(x) with σ(x) = 1/(1 + e⁻ˣ) (Elfwing et al., 2017).

    dx = dy (σ + x σ (1 − σ)),  since σ′ = σ (1 − σ)
    """
    sigma = sigmoid(x)
    y = x * sigma
    slope = sigma + y * (1 - sigma)
    return y, lambda dy: dy * slope


def sigmoid(x: Array) -> Array:
    """σ(x) = 1/(1 + e⁻ˣ), which is 0 where e⁻ˣ overflows to infinity."""
    if np.iscomplexobj(x):  # an infinity in the complex plane has no direction, and 1/∞ would be nan
        x = np.maximum(x.real, -700) + 1j * x.imag
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


@in_blocks
def gelu(x: Array) -> tuple[Array, Pullback]:
    """y = x Φ(x) with Φ(x) = (1 + erf(x/√2))/2, the exact GELU of BERT (Hendrycks and Gimpel, 2016).

    dx = dy (Φ + x φ),  since Φ′ = φ = e^(−x²/2)/√(2π)
    """
    cdf, density = normal(x)  # Φ, φ
    slope = cdf + x * density
    return x * cdf, lambda dy: dy * slope


@in_blocks
def gelu_tanh(x: Array) -> tuple[Array, Pullback]:
    """y = x (1 + tanh u)/2 with u = √(2/π) (x + 0.044715 x³): GPT-2's and T5's GELU (`gelu_new`, `gelu_pytorch_tanh`).

    Since (1 + tanh u)/2 = σ(2u):  dx = dy (σ + x σ (1 − σ) 2u′),  2u′ = 2√(2/π) (1 + 3·0.044715 x²)
    """
    scale = 2 * math.sqrt(2 / math.pi)
    cubic = scale * 0.044715 * (x * x)
    sigma = sigmoid(x * (scale + cubic))  # σ(2u)
    y = x * sigma
    slope = sigma + y * (1 - sigma) * (scale + 3 * cubic)
    return y, lambda dy: dy * slope


ACTIVATIONS: dict[str, Callable[[Array], tuple[Array, Pullback]]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": relu,
    "silu": silu,
    "tanh": tanh,
}
