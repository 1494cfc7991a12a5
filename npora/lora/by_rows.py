"""One forward in which each row of a batch has an adapter of its own: what a layer does then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import Any

import numpy as np

from npora.lora.adapter import Adapter
from npora.lora.mixed import UnknownRows, acting, rows_acting
from npora.nn.grad_mode import no_grad, within
from npora.nn.linear import Linear
from npora.nn.module import Array, Module, Pullback
from npora.nn.packing import Packing


class Rows:
    """Whose each row is that a layer is given, while a batch of b rows goes through a model once.

    An array has the batch as its first axis; or its rows are those of a Packing of b sequences that the model has made
    meanwhile, and it is known by their number. Two packings of as many rows that are not shared out alike leave it
    unknown.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = np.array(names)  # [b]
        self._owners: dict[int, Array | None] = {len(names): np.arange(len(names))}

    def learn(self, packing: Packing) -> None:
        if packing.is_full and len(packing.lengths) == len(self.names):
            owners = packing.sequences  # [n]
            known = self._owners.get(packing.rows, owners)
            self._owners[packing.rows] = owners if known is not None and np.array_equal(known, owners) else None

    def of(self, x: Any) -> dict[str, Array]:
        """Return which rows of an array are each adapter's. Raises UnknownRows."""
        if not isinstance(x, np.ndarray) or not x.ndim:
            raise UnknownRows
        owners = np.arange(len(x)) if x.ndim > 2 and len(x) == len(self.names) else self._owners.get(len(x))
        if owners is None:
            raise UnknownRows
        names = self.names[owners]
        return {str(name): np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())}


def together(names: list[str], call: Callable[[], Any]) -> Any:
    """Call a function in which each layer gives each of its rows the adapter that is named for it. Raises UnknownRows
    where a layer cannot tell whose they are."""
    rows = Rows(names)
    learning: AbstractContextManager[None] = within(packing_made=rows.learn)
    with rows_acting(rows), learning, no_grad():
        return call()


def adapted(x: Array, base: Linear, adapters: Mapping[str, Adapter]) -> tuple[Array, Pullback]:
    """y of a layer: of each row what its adapter makes of it.

    Where an adapter asks its base for base(x) alone, and of these very rows, the base computes all rows at once, when
    the first asks.
    """
    of_base = cache(lambda: base(x)[0])  # [...,o]
    found: list[tuple[Array, Array]] = []
    for name, mine in acting.rows.of(x).items():
        adapter, some = adapters.get(name), x[mine]
        if adapter is None:
            found.append((mine, of_base()[mine]))
        else:
            under = SharedOutput(base, some, partial(_taken, of_base, mine)) if adapter.calls_alone else base
            found.append((mine, adapter.forward(some, under)[0]))
    return _in_order(found, len(x)), _no_backward


def whole(original: Module, copies: Mapping[str, Module], x: Any, *others: Any) -> tuple[Array, Pullback]:
    """y of a module that some adapters have a whole copy of, where it is called with rows alone."""
    if any(other is not None for other in others):
        raise UnknownRows
    found: list[tuple[Array, Array]] = []
    for name, mine in acting.rows.of(x).items():
        part, _ = copies.get(name, original)(x[mine])
        if not isinstance(part, np.ndarray) or part.shape[:1] != mine.shape:
            raise UnknownRows
        found.append((mine, part))
    return _in_order(found, len(x)), _no_backward


class SharedOutput(Linear):
    """This is a layer as the base of an adapter that has some rows of a batch: of these rows, it takes its output from
    that of all. Of its W, the shape and dtype alone count."""

    def __init__(self, base: Linear, some: Array, output: Callable[[], Array]) -> None:
        self.base, self.some, self.output = base, some, output
        self.weight, self.bias = base.weight, base.bias

    def forward(self, x: Array, rng: Any = None) -> tuple[Array, Pullback]:
        return (self.output(), _no_backward) if x is self.some else self.base(x)

    def turned(self, W: Array) -> Array:
        return self.base.turned(W)


def _taken(whole: Callable[[], Array], rows: Array) -> Array:
    return whole()[rows]


def _in_order(parts: list[tuple[Array, Array]], number: int) -> Array:
    """Put rows in their places."""
    first = parts[0][1]
    y = np.empty((number, *first.shape[1:]), first.dtype)
    for places, part in parts:
        y[places] = part
    return y


def _no_backward(dy: Array) -> Array:
    raise RuntimeError("a batch of several adapters has no backward")
