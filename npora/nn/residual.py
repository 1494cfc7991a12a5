"""How layers are put together: a sum with what goes in, one behind the other, and a value that several read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npora.nn.module import Array, Pullback
from npora.nn.view import View

Layer = Callable[[Array], tuple[Array, Pullback]]


def residual(f: Layer, x: Array, view: View | None = None) -> tuple[Array, Pullback]:
    """y = x + f(x), the form of every sublayer (He et al., 2015).    x [n,m]  →  y [n,m]

        dx = dy + f's pullback of dy        (1)   x feeds the sum and f

    Where f gives the k rows alone that a view reads, y is those of x too: y = x[read] + f(x), and dy goes back to them.
    """
    a, back_f = f(x)
    kept, back_pick = (x, None) if view is None else view.pick(x)  # [n,m] → [k,m]

    def backward(dy: Array) -> Array:
        return (dy if back_pick is None else back_pick(dy)) + back_f(dy)  # (1) [n,m]

    return kept + a, backward


def chain(*functions: Layer) -> Layer:
    """x ↦ f_k(… f_1(x)), whose pullback runs through theirs in reverse: dx = f_1's of … f_k's of dy."""

    def chained(x: Array) -> tuple[Array, Pullback]:
        backs = []
        for f in functions:
            x, back = f(x)
            backs.append(back)

        def backward(dy: Array) -> Array:
            for back in reversed(backs):
                dy = back(dy)
            return dy

        return x, backward

    return chained


class Shared:
    """A value that several layers read, and the sum of the gradients that they give back for it.

        v ↦ v, v, …        dv = Σᵢ dvᵢ        (1)

    Each layer's backward calls `add`; who made the value calls `gradient` when all of them have run.
    """

    def __init__(self, value: Array) -> None:
        self.value = value
        self._sum: Array | None = None

    def add(self, dvalue: Array) -> None:
        self._sum = dvalue if self._sum is None else self._sum + dvalue  # (1)

    def gradient(self) -> Array:
        """dv, zeros where no layer gave any. The sum begins anew."""
        total, self._sum = self._sum, None
        return np.zeros_like(self.value) if total is None else total
