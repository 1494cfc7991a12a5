"""A stack of layers, of which only those that something trained can see are differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from npora.nn.grad_mode import is_backward_once, is_grad_enabled, no_grad
from npora.nn.module import Module, checkpoint, is_trained

_Back = TypeVar("_Back")
_State = TypeVar("_State")  # rows [n,m], or a tuple that holds them and what the layers share


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
    first = 0 if below_is_trained or not is_grad_enabled() else _lowest_trained(layers)
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
        for back in _taken_from(backs) if is_backward_once() else reversed(backs):
            dx = back(dx)
        return below(dx) if below_is_trained else None

    return x, backward


def _taken_from(backs: list[_Back]) -> Iterator[_Back]:
    """Take the pullbacks from the last to the first; the list then no longer holds them."""
    while backs:
        yield backs.pop()


def _lowest_trained(layers: Sequence[Module]) -> int:
    trained = (index for index, layer in enumerate(layers) if is_trained(layer))
    return next(trained, len(layers))
