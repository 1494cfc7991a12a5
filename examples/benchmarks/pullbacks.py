"""The pullbacks that gradient checkers are handed, right and wrong: layers with planted errors, and the museum's."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npora.nn import functional as F

Array = Any
rng = np.random.default_rng(0)


@dataclass
class Case:
    """function(*inputs) → (y, backward); right says whether backward is."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[Array, ...]
    right: bool

    @property
    def dtype(self) -> Any:
        return self.inputs[0].dtype


def linear(x: Array, W: Array) -> Any:
    return x @ W.T, lambda dy: (dy @ W, dy.T @ x)


def scaled(function: Callable[..., Any], c: float) -> Callable[..., Any]:
    """c f, as in a mean over many tokens."""

    def times(*inputs: Array) -> Any:
        y, backward = function(*inputs)
        s = y.dtype.type(c)
        return s * y, lambda dy: backward(s * dy)

    return times


def broken(function: Callable[..., Any], change: Callable[[Array], Array], which: int = 0) -> Callable[..., Any]:
    """The function, with one of its gradients changed."""

    def wrong(*inputs: Array) -> Any:
        y, backward = function(*inputs)

        def pull(dy: Array) -> Any:
            gradients = backward(dy)
            parts = list(gradients) if isinstance(gradients, tuple) else [gradients]
            parts[which] = np.asarray(change(parts[which]), parts[which].dtype)
            return tuple(parts) if isinstance(gradients, tuple) else parts[0]

        return y, pull

    return wrong


def element(g: Array) -> Array:
    g = g.copy()
    index = np.unravel_index(np.abs(g).argmax(), g.shape)
    g[index] *= 1.01
    return g


def normalize(x: Array) -> Any:
    return F.normalize(x, 1e-5)


def ignoring_dy(x: Array) -> Any:
    return x * x, lambda dy: 2 * x * dy + 0.5


def random_backward(x: Array) -> Any:
    return x * x, lambda dy: 2 * x * dy * (1 + 1e-4 * np.random.default_rng().standard_normal(x.shape))


def lora(x: Array, A: Array, B: Array) -> Any:
    """y = x Aᵀ Bᵀ, with dA too large by a half: at B = 0 it is zero, and every formula passes."""
    u = x @ A.T
    return u @ B.T, lambda dy: (dy @ B @ A, 1.5 * (dy @ B).T @ x, dy.T @ u)


def cases() -> list[Case]:
    def draw(*shape: int, dtype: Any = np.float64) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    smooth = {
        "gelu": (F.gelu_tanh, (draw(4, 5),)),
        "softmax": (F.softmax, (draw(4, 5),)),
        "normalize": (normalize, (draw(4, 5),)),
        "linear": (linear, (draw(4, 5), draw(3, 5))),
        "square matrix": (linear, (draw(5, 5), draw(5, 5))),
        "wide": (F.gelu_tanh, (draw(40, 40),)),
    }
    errors: dict[str, Callable[[Array], Array]] = {
        "sign": lambda g: -g,
        "zero": lambda g: 0 * g,
        "factor 1.01": lambda g: 1.01 * g,
        "factor 1.0009": lambda g: 1.0009 * g,
        "factor 1 + 1e-6": lambda g: (1 + 1e-6) * g,
        "one element by 1 %": element,
        "mean dropped": lambda g: g - g.mean(axis=-1, keepdims=True) / 2,
    }
    found = []
    for name, (function, inputs) in smooth.items():
        found.append(Case(f"{name}", function, inputs, True))
        tiny, single = scaled(function, 1e-6), tuple(x.astype(np.float32) for x in inputs)
        found.append(Case(f"{name}, tiny", tiny, inputs, True))
        found.append(Case(f"{name}, float32", function, single, True))
        for error, change in errors.items():
            if error == "mean dropped" and name in ("softmax", "normalize"):
                continue  # their rows sum to zero: there is no mean to drop
            found.append(Case(f"{name}: {error}", broken(function, change), inputs, False))
            if error in ("sign", "zero", "factor 1.01"):
                found.append(Case(f"{name}, tiny: {error}", broken(tiny, change), inputs, False))
                found.append(Case(f"{name}, float32: {error}", broken(function, change), single, False))
    x, W = smooth["square matrix"][1]
    found.append(Case("square matrix: transposed", broken(linear, lambda g: g.T, 1), (x, W), False))
    found.append(Case("backward ignores dy in part", ignoring_dy, (draw(4, 5),), False))
    found.append(Case("backward is random", random_backward, (draw(4, 5),), False))
    found.append(Case("relu near its kink", F.relu, (np.array([0.7, 1e-7, -1e-7, -2.0]),), True))
    found.append(Case("relu: sign", broken(F.relu, lambda g: -g), (draw(4, 5),), False))
    found.append(Case("large inputs", scaled(linear, 1e6), (1e4 * draw(3, 4), draw(2, 4)), True))
    found.append(
        Case(
            "sine of a fast wave", lambda x: (np.sin(300 * x), lambda dy: 300 * np.cos(300 * x) * dy), (draw(6),), True
        )
    )
    found.append(Case("LoRA at B = 0: dA by a half", lora, (draw(4, 5), draw(2, 5), np.zeros((3, 2))), False))
    return found


def museum() -> list[Case]:
    """The exhibits. A gradient of None is none to the others, and an error is as good as a verdict."""
    exhibits = runpy.run_path(str(Path(__file__).parents[1] / "checking" / "museum.py"))["MUSEUM"]

    def case(exhibit: Any) -> Case:
        def function(*inputs: Array) -> Any:
            y = exhibit.forward(*inputs, **exhibit.constants)
            return y, lambda dy: exhibit.pullback(dy, *inputs, **exhibit.constants)

        return Case(exhibit.source, function, exhibit.inputs, False)

    return [case(exhibit) for exhibit in exhibits]
