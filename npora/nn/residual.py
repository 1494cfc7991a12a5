"""How layers are put together: a sum with what goes in, and one behind the other."""

from __future__ import annotations

from collections.abc import Callable

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
