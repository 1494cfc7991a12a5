"""Functions of each element on its own: activations, a gate, dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from npora.nn import functional as F
from npora.nn.functional import erf
from npora.nn.module import Array
from npora.study.exercises.declared import Exercise, coin, given, normal


def relu(x: Array) -> Array:
    """y = max(x, 0), element by element.    x [n,f]  →  y [n,f]"""
    return np.where(x > 0, x, 0)


def relu_backward(dy: Array, x: Array) -> Array:
    return np.where(x > 0, dy, 0)


def tanh(x: Array) -> Array:
    """y = tanh x, element by element.    x [n,f]  →  y [n,f]"""
    return np.tanh(x)


def tanh_backward(dy: Array, x: Array) -> Array:
    return dy * (1 - np.tanh(x) ** 2)


def tanh_named(dy: Array, x: Array) -> dict[str, Any]:
    y = np.tanh(x)
    return {
        "the share of y²": -dy * y * y, "the gradient with y not squared": dy * (1 - y),
        "the gradient with 1/cosh x, not squared": dy / np.cosh(x),
        "the gradient with 1 − x², with x in the place of y": dy * (1 - x * x), "y²": y * y, "1 − y²": 1 - y * y,
    }  # fmt: skip


def silu(x: Array) -> Array:
    """y = x σ(x) with σ(x) = 1/(1 + e⁻ˣ), element by element.    x [n,f]  →  y [n,f]"""
    return x / (1 + np.exp(-x))


def silu_backward(dy: Array, x: Array) -> Array:
    sigma = 1 / (1 + np.exp(-x))
    return dy * (sigma + x * sigma * (1 - sigma))


def silu_named(dy: Array, x: Array) -> dict[str, Any]:
    sigma = 1 / (1 + np.exp(-x))
    return {
        "σ(x)": sigma, "1 − σ(x)": 1 - sigma, "the share of the factor x": dy * sigma,
        "the share through σ": dy * x * sigma * (1 - sigma),
        "the share through σ, with σ′ = σ": dy * (sigma + x * sigma),
        "the gradient with σ (1 + σ) in the place of σ′": dy * (sigma + x * sigma * (1 + sigma)),
        "the gradient with σ′ = 1 − σ": dy * (sigma + x * (1 - sigma)), "dy times σ′": dy * sigma * (1 - sigma),
        "the gradient with σ′ without its factor x": dy * (sigma + sigma * (1 - sigma)),
    }  # fmt: skip


def gelu_tanh(x: Array) -> Array:
    """y = x (1 + tanh u)/2 with u = √(2/π) (x + 0.044715 x³), element by element.    x [n,f]  →  y [n,f]"""
    u = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + np.tanh(u))


def gelu_tanh_backward(dy: Array, x: Array) -> Array:
    u = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    du = np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x**2)
    return dy * (0.5 * (1 + np.tanh(u)) + 0.5 * x * (1 - np.tanh(u) ** 2) * du)


def gelu_tanh_named(dy: Array, x: Array) -> dict[str, Any]:
    c, t = math.sqrt(2 / math.pi), np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))
    inner = dy * 0.5 * x * (1 - t**2) * c
    return {
        "the share of the factor x": dy * 0.5 * (1 + t), "the share of tanh u": inner * (1 + 3 * 0.044715 * x**2),
        "the share of x³ in u": inner * 3 * 0.044715 * x**2, "the share of x in u": inner,
        "the gradient without u's own slope": dy * 0.5 * (1 + t) + inner / c, "√(2/π)": c,
        "the gradient with x³ in u's slope, where x² is meant":
            dy * 0.5 * (1 + t) + inner * (1 + 0.134145 * x**3),
        "the gradient with tanh u not squared": dy * 0.5 * (1 + t) + dy * 0.5 * x * (1 - t) * c * (1 + 0.134145 * x**2),
        "the gradient with the slope of tanh u without its factor x":
            dy * 0.5 * (1 + t) + dy * 0.5 * (1 - t**2) * c * (1 + 0.134145 * x**2),
    }  # fmt: skip


def gelu(x: Array) -> Array:
    """y = x Φ(x) with Φ(x) = (1 + erf(x/√2))/2, the normal distribution's.    x [n,f]  →  y [n,f]"""
    return 0.5 * x * (1 + erf(x / np.sqrt(2)))


def gelu_backward(dy: Array, x: Array) -> Array:
    return dy * (0.5 * (1 + erf(x / np.sqrt(2))) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi))


def gelu_named(dy: Array, x: Array) -> dict[str, Any]:
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    return {
        "√(2π)": math.sqrt(2 * math.pi), "Φ(x)": 0.5 * (1 + erf(x / math.sqrt(2))), "φ(x)": density,
        "the share of the factor x": dy * 0.5 * (1 + erf(x / math.sqrt(2))), "the share of Φ": dy * x * density,
        "the gradient with φ(x) = e^(−x²)/√(2π), without the half,": dy * (
            0.5 * (1 + erf(x / math.sqrt(2))) + x * density * np.exp(-(x**2) / 2)),
        "the gradient with φ without its factor x": dy * (0.5 * (1 + erf(x / math.sqrt(2))) + density),
    }  # fmt: skip


def swiglu(gate: Array, up: Array) -> Array:
    """y = silu(gate) ⊙ up with silu(x) = x/(1 + e⁻ˣ).    gate, up [n,f]  →  y [n,f]"""
    return gate / (1 + np.exp(-gate)) * up


def swiglu_backward(dy: Array, gate: Array, up: Array) -> tuple[Array, Array]:
    sigma = 1 / (1 + np.exp(-gate))
    return dy * up * (sigma + gate * sigma * (1 - sigma)), dy * gate * sigma


def swiglu_named(dy: Array, gate: Array, up: Array) -> dict[str, Any]:
    sigma = 1 / (1 + np.exp(-gate))
    return {
        "silu(gate)": gate * sigma, "σ(gate)": sigma, "silu's slope": sigma + gate * sigma * (1 - sigma),
        "the share through σ": dy * up * gate * sigma * (1 - sigma), "the share of the factor gate": dy * up * sigma,
    }  # fmt: skip


def dropout(x: Array, *, keep: Array, p: float) -> Array:
    """y = x/(1 − p) where keep is True, and 0 where it is not.    x [n,f]  keep bool [n,f]  →  y [n,f]"""
    return np.where(keep, x / (1 - p), 0)


def dropout_backward(dy: Array, x: Array, *, keep: Array, p: float) -> Array:
    return np.where(keep, dy / (1 - p), 0)


def dropout_named(dy: Array, x: Array, *, keep: Array, p: float) -> dict[str, Any]:
    return {
        "1 − p": 1 - p, "p": p, "p in the place of 1 − p, a factor (1 − p)/p": (1 - p) / p,
        "keep": keep.astype(float), "the share of dropped elements": dy * ~keep,
        "the share of dropped elements, times 1/(1 − p),": dy * ~keep / (1 - p),
    }  # fmt: skip


EXERCISES = (
    Exercise(
        relu_backward,
        "Each y depends on the x at its own place alone, so each dx is dy there times the slope dy/dx. At exactly 0 "
        "take the slope 0.",
        (
            "What is the slope of max(x, 0) for x > 0, and for x < 0?",
            "It is 1 or 0: dx is dy at some places and 0 at the others.",
            "The places are those where x, not dy, is above 0.",
        ),
        {"x": normal("n f")},
        relu,
        dy="n f",
        page=F.relu,
    ),
    Exercise(
        tanh_backward,
        "Each y depends on the x at its own place alone. Write the slope so that it cannot overflow.",
        (
            "What is the derivative of tanh, written by tanh itself?",
            "With y = tanh x it is 1 − y².",
            "Compute y again from x, and multiply 1 − y² by dy.",
        ),
        {"x": normal("n f")},
        tanh,
        dy="n f",
        named=tanh_named,
        page=F.tanh,
    ),
    Exercise(
        silu_backward,
        "x stands in y twice: as a factor, and inside σ. Use the product rule.",
        (
            "Write y as a product of two functions of x.",
            "The derivative is 1 σ(x) + x σ′(x). How is σ′ written by σ?",
            "σ′ = σ (1 − σ).",
        ),
        {"x": normal("n f")},
        silu,
        dy="n f",
        named=silu_named,
        page=F.silu,
    ),
    Exercise(
        gelu_tanh_backward,
        "x stands in y as a factor, and inside tanh u. Use the product rule, and for tanh u the chain rule.",
        (
            "The derivative of y is (1 + tanh u)/2 and a second term, which has du/dx in it.",
            "d tanh(u)/dx = (1 − tanh² u) du/dx.",
            "du/dx = √(2/π) (1 + 3 · 0.044715 x²). The second term has the factor x/2, too.",
        ),
        {"x": normal("n f")},
        gelu_tanh,
        dy="n f",
        named=gelu_tanh_named,
        page=F.gelu_tanh,
    ),
    Exercise(
        gelu_backward,
        "x stands in y as a factor, and inside Φ. You may call erf, as the forward does; its own derivative is "
        "2/√π e^(−z²).",
        (
            "The derivative of y is Φ(x) + x Φ′(x).",
            "Φ′ = φ, the density of the normal distribution, which has no erf in it.",
            "φ(x) = e^(−x²/2)/√(2π).",
        ),
        {"x": normal("n f")},
        gelu,
        dy="n f",
        named=gelu_named,
        page=F.gelu,
        imports="from npora.nn.functional import erf",
    ),
    Exercise(
        swiglu_backward,
        "A product of two arrays, of which one goes through silu first: Llama's gate. Return a gradient of each.",
        (
            "Call a = silu(gate). What are da and dup of y = a ⊙ up?",
            "dup = dy ⊙ a, and da = dy ⊙ up: each gets the other factor.",
            "dgate is da times silu's slope at gate, σ + gate σ (1 − σ).",
        ),
        {"gate": normal("n f"), "up": normal("n f")},
        swiglu,
        dy="n f",
        named=swiglu_named,
        page=F.swiglu,
    ),
    Exercise(
        dropout_backward,
        "What is dropped (keep, a constant) was drawn before, with probability p, so that backward drops the same.",
        (
            "With keep and p fixed, y is linear in x: what is each element's factor?",
            "It is 1/(1 − p) where keep is True, and 0 elsewhere.",
            "Do to dy what the forward does to x.",
        ),
        {"x": normal("n f"), "keep": coin("n f"), "p": given(0.3, 0.6)},
        dropout,
        dy="n f",
        named=dropout_named,
        page=F.dropout,
    ),
)
