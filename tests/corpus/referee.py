"""Is a function of the corpus right? Differences in a few directions, apart from the bench and its oracles."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from npora.nn.module import Array
from tests.corpus.case import Function, Right, Source


def tuple_of(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def gradients(function: Function, inputs: tuple[Any, ...], dy: tuple[Array, ...]) -> list[Array]:
    """Those of the floating-point inputs, as copies."""
    backward = function(*inputs)[1]
    return [np.array(g) for g in tuple_of(backward(*dy)) if g is not None]


def upstream(function: Function, inputs: tuple[Any, ...], source: np.random.Generator) -> tuple[Array, ...]:
    return tuple(np.asarray(source.standard_normal(np.shape(y))) for y in tuple_of(function(*inputs)[0]))


def floats(inputs: tuple[Any, ...]) -> list[int]:
    return [k for k, x in enumerate(inputs) if x.dtype.kind == "f"]


def disagreement(case: Right, seed: int) -> float:
    """|⟨gradient, v⟩ − the slope along v|, relative to ‖gradient‖ ‖v‖, the largest of each input's two directions."""
    inputs = case.inputs(seed, mild=True)
    source = Source("a direction", seed)
    dy = upstream(case.function, inputs, source)
    found = gradients(case.function, inputs, dy)
    worst = 0.0
    for place, gradient in zip(floats(inputs), found, strict=True):
        if gradient.shape != inputs[place].shape:
            raise ValueError(f"{case.name}: the gradient of input {place} has shape {gradient.shape}")
        for _ in range(2):
            v = source.standard_normal(gradient.shape) * np.abs(inputs[place]).max()
            size = np.linalg.norm(gradient) * np.linalg.norm(v)
            off = abs(float((gradient * v).sum()) - _slope(case.function, inputs, place, v, dy))
            worst = max(worst, off / size if size else off)
    return worst


def _slope(function: Function, inputs: tuple[Any, ...], place: int, v: Array, dy: tuple[Array, ...]) -> float:
    """Central differences extrapolated to h = 0, at the two steps that agree best."""

    def value(t: float) -> float:
        moved = [x + t * v if k == place else x for k, x in enumerate(inputs)]
        ys = tuple_of(function(*moved)[0])
        return float(sum((w * y).sum() for w, y in zip(dy, ys, strict=True)))

    steps = [2.0**-k for k in range(6, 22, 2)]
    central = [(value(h) - value(-h)) / (2 * h) for h in steps]
    once = [(16 * fine - wide) / 15 for wide, fine in pairwise(central)]
    twice = [(256 * fine - wide) / 255 for wide, fine in pairwise(once)]
    best = int(np.argmin(np.abs(np.diff(twice))))
    return twice[best + 1]
