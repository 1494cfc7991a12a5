"""How layers are put together: a sum with what goes in, one behind the other, a value that several read, a stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from npora.nn.grad_mode import is_grad_enabled, no_grad, this_thread
from npora.nn.module import Array, Module, Pullback, checkpoint, is_trained
from npora.nn.view import View, pick_rows

_State = TypeVar("_State")  # rows [n,m], or a tuple that holds them and what the layers share
Layer = Callable[[Array], tuple[Array, Pullback]]


def residual(f: Layer, x: Array, view: View | None = None) -> tuple[Array, Pullback]:
    """y = x + f(x), the form of every sublayer (He et al., 2015).    x [n,m]  →  y [n,m]

        dx = dy + f's pullback of dy        (1)   x feeds the sum and f

    Where f gives the k rows alone that a view reads, y is those of x too: y = x[read] + f(x), and dy goes back to them.
    """
    a, back_f = f(x)
    picked, back_pick = pick_rows(x, None if view is None else view.read)  # [n,m] → [k,m]
    return picked + a, lambda dy: back_pick(dy) + back_f(dy)  # (1) [n,m]


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


def stack(
    layers: Sequence[Module],
    x: _State,
    *args: Any,
    below_is_trained: bool,
    below: Callable[[_State], Any] = lambda dx: dx,
    recompute: bool = False,
    own_keywords: Callable[[int], dict[str, Any]] = lambda index: {},
    watch: Callable[[_State], None] | None = None,
    **keywords: Any,
) -> tuple[_State, Callable[[_State], Any]]:
    """x ↦ layer_L(… layer_1(x)), each called with the same arguments; backward runs through them in reverse.

    below_is_trained : whether something below the stack is trained. If not, backward ends at the lowest layer that
        holds a trainable parameter, and returns None; the layers below that one keep nothing, as under no_grad().
    below : the pullback of what made x, with which backward ends
    recompute : keep each layer's input alone, and run the layer again in backward (Chen et al., 2016)
    own_keywords : keywords of a layer's own, by its number
    watch : is shown what each layer returns
    """
    trained = (index for index, layer in enumerate(layers) if is_trained(layer))
    first = 0 if below_is_trained or not is_grad_enabled() else next(trained, len(layers))
    backs: list[Callable[[_State], _State]] = []
    for index, layer in enumerate(layers):
        own = {**keywords, **own_keywords(index)}
        if index < first:
            with no_grad():
                x, _ = layer(x, *args, **own)
        else:
            x, back = checkpoint(layer, x, *args, **own) if recompute else layer(x, *args, **own)
            backs.append(back)
        if watch is not None:
            watch(x)

    def backward(dx: _State) -> Any:
        if len(backs) < len(layers) - first:
            raise RuntimeError("this backward ran within backward_once(), and what it read is freed: run forward again")
        left = backs if this_thread.backward_once else list(backs)
        while left:
            dx = left.pop()(dx)
        return below(dx) if below_is_trained else None

    return x, backward
