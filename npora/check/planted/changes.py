"""What the errors do to a right gradient, where that takes more than an expression.

Each gives the changed gradient, or None where it has done what there was to do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.check.planted.scene import Scene
from npora.nn.module import Array


def put(g: Array, index: Any, value: Any) -> Array:
    changed: Array = g.copy()
    changed[index] = value
    return changed


def largest(g: Array) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(int(np.abs(g).argmax()), g.shape))


def headless(s: Scene) -> Array:
    return put(s.g, (..., slice(0, s.g.shape[-1] // s.context.heads)), 0)


def with_second_mean(s: Scene) -> Array:
    x = s.arrays[s.name]
    centred = x - x.mean(axis=-1, keepdims=True)
    more: Array = centred * (s.g * centred).mean(axis=-1, keepdims=True)
    return s.g + more


def without_rank_one(s: Scene) -> Array:
    u, sigma, v = np.linalg.svd(s.g, full_matrices=False)
    second: Array = sigma[1] * np.outer(u[:, 1], v[1])
    return s.g - second if sigma[1] > 1e-3 * sigma[0] else s.g  # as it is where it is almost of rank 1


def scaled_by_row(s: Scene) -> Array:
    factors: Array = np.linspace(0.5, 1.5, len(s.g)).reshape(-1, *(1,) * (s.g.ndim - 1))
    return s.g * factors


def noisy(s: Scene) -> Array:
    rng = s.state.setdefault("rng", np.random.default_rng(3))
    factors: Array = 1 + 1e-3 * rng.standard_normal(s.g.shape)
    return s.g * factors


def swap(s: Scene) -> None:
    twin = s.twin
    s.gradients[twin], s.gradients[s.name] = s.g, s.gradients[twin]


def hold_the_first(s: Scene) -> None:
    s.gradients[s.name] = s.state.setdefault("held", s.g.copy())


def follow_the_latest(s: Scene) -> None:
    if s.state["forwards"] > s.state["own"]:
        s.gradients[s.name] = 0.75 * s.g


def overwrite(s: Scene) -> None:
    s.overwrite = True


def double_dy(s: Scene) -> None:
    np.multiply(s.dy[0], 2, out=s.dy[0])
