"""Activations, element by element, and the gate that multiplies by one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from npora.machine.blocks import in_blocks
from npora.nn.erf import normal
from npora.nn.module import Array, Pullback

Activation = Callable[[Array], tuple[Array, Pullback]]


def relu(x: Array) -> tuple[Array, Pullback]:
    """y = max(x, 0), dx = dy where x > 0. At 0 the slope is taken to be 0."""
    positive = x.real > 0
    return x * positive, lambda dy: dy * positive


def relu2(x: Array) -> tuple[Array, Pullback]:
    """y = max(x, 0)² (So et al., 2021), dx = dy 2 max(x, 0)."""
    positive, _ = relu(x)
    return positive * positive, lambda dy: dy * (2 * positive)


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


@in_blocks
def quick_gelu(x: Array) -> tuple[Array, Pullback]:
    """y = x σ(a x) with a = 1.702, CLIP's approximation of GELU (Hendrycks and Gimpel, 2016).

    dx = dy (σ + a x σ (1 − σ)),  since σ(a x)′ = a σ (1 − σ)
    """
    sigma = sigmoid(1.702 * x)
    y = x * sigma
    slope = sigma + 1.702 * (y * (1 - sigma))
    return y, lambda dy: dy * slope


@in_blocks
def mish(x: Array) -> tuple[Array, Pullback]:
    """y = x t with t = tanh(log(1 + eˣ)) (Misra, 2019).

    log(1 + eˣ) = −log(1 − σ), and tanh(−log q) = (1 − q²)/(1 + q²). With q = 1 − σ neither a logarithm is left, nor
    what could overflow or cancel:

        t = r / (2 − r)  with r = σ (2 − σ)      (1)
        dx = dy (t + x σ (1 − t²))               (2)   since log(1 + eˣ)′ = σ and tanh′ = 1 − tanh²
    """
    sigma = sigmoid(x)
    r = sigma * (2 - sigma)
    t = r / (2 - r)  # (1)
    slope = t + x * (sigma * (1 - t * t))  # (2)
    return x * t, lambda dy: dy * slope


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

    `gelu_fast` is this with √(2/π) cut to ten digits, which changes y by 4e-12 |y| at most.

    Since (1 + tanh u)/2 = σ(2u):  dx = dy (σ + x σ (1 − σ) 2u′),  2u′ = 2√(2/π) (1 + 3·0.044715 x²)
    """
    scale = 2 * math.sqrt(2 / math.pi)
    cubic = scale * 0.044715 * (x * x)
    sigma = sigmoid(x * (scale + cubic))  # σ(2u)
    y = x * sigma
    slope = sigma + y * (1 - sigma) * (scale + 3 * cubic)
    return y, lambda dy: dy * slope


def gated(gate: Array, up: Array, activation: Activation) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """y = a(gate) ⊙ up, of an activation a with its pullback: SwiGLU, GEGLU and their like (Shazeer, 2020).

    gate, up, y [...,f];

        dup = dy ⊙ a(gate)                      (1)
        dgate = a's pullback of dy ⊙ up         (2)

    backward returns (dgate, dup). What it reads are the inputs: a(gate) is cheaper to compute again than to keep.
    Identity: Σ dup ⊙ up = Σ dy ⊙ y, since y is linear in up.
    """

    def backward(dy: Array) -> tuple[Array, Array]:
        a, back_activation = activation(gate)
        return back_activation(dy * up), dy * a  # (2), (1)

    return activation(gate)[0] * up, backward


def swiglu(gate: Array, up: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """y = silu(gate) ⊙ up, Llama's gate; see `gated`."""
    return gated(gate, up, silu)


# transformers' names.
ACTIVATIONS: dict[str, Activation] = {
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
