"""What a stack's closures hold, and for how long."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from npora.nn.grad_mode import backward_once, no_grad
from npora.nn.module import Array, Module, Parameter
from npora.nn.residual import stack


class Scale(Module):
    """y = c x, which notes, when its backward runs, its c and how many of the layers' kept arrays there are."""

    def __init__(self, c: float, kept: list[weakref.ref[Array]], seen: list[tuple[float, int]]) -> None:
        self.c, self.kept, self.seen = c, kept, seen

    def forward(self, x: Array) -> tuple[Array, Callable[[Array], Array]]:
        own = np.full_like(x, self.c)
        self.kept.append(weakref.ref(own))

        def backward(dy: Array) -> Array:
            self.seen.append((self.c, sum(array() is not None for array in self.kept)))
            return dy * own

        return x * own, backward


def scales(seen: list[tuple[float, int]]) -> Callable[[Array], Array | None]:
    kept: list[weakref.ref[Array]] = []
    y, backward = stack([Scale(c, kept, seen) for c in (2.0, 3.0, 5.0)], np.array([1.0, 7.0]), below_is_trained=True)
    assert y.tolist() == [30, 210]
    return backward


def test_backward_once_frees_each_layers_closure_as_soon_as_it_has_run() -> None:
    seen: list[tuple[float, int]] = []
    backward = scales(seen)
    with backward_once():
        assert np.asarray(backward(np.array([1.0, -1.0]))).tolist() == [30, -30]
        assert seen == [(5, 3), (3, 2), (2, 1)]
        with pytest.raises(RuntimeError, match="run forward again"):
            backward(np.array([1.0, -1.0]))
    with pytest.raises(RuntimeError, match="run forward again"):
        backward(np.array([1.0, -1.0]))
    assert len(seen) == 3


def test_elsewhere_a_backward_may_be_asked_again() -> None:
    seen: list[tuple[float, int]] = []
    backward = scales(seen)
    with pytest.raises(KeyError), backward_once():
        raise KeyError  # the block ends with what raised in it
    for factor in (1.0, 2.0):
        assert np.asarray(backward(np.array([factor, -1.0]))).tolist() == [30 * factor, -30]
    assert seen == [(5, 3), (3, 3), (2, 3)] * 2


class Unsearched(Scale):
    def named_members(self) -> Iterator[tuple[str, Module | Parameter]]:
        raise AssertionError("whoever asks what is trained walks all parameters, and without gradients need not know")


def test_without_gradients_nobody_asks_which_layers_are_trained() -> None:
    with no_grad():
        y, _ = stack([Unsearched(c, [], []) for c in (2.0, 3.0)], np.array([1.0, 7.0]), below_is_trained=False)
    assert y.tolist() == [6, 42]


def test_where_nothing_below_is_trained_backward_ends_at_the_lowest_trained_layer_and_gives_nothing() -> None:
    seen: list[tuple[float, int]] = []
    layers = [Scale(c, [], seen) for c in (2.0, 3.0, 5.0)]
    layers[1].weight = Parameter(np.ones(1))
    _, backward = stack(layers, np.array([1.0, 7.0]), below_is_trained=False)
    assert backward(np.array([1.0, -1.0])) is None and [c for c, _ in seen] == [5, 3]
