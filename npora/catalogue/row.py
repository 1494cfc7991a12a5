"""A row of the catalogue, and what draws its sizes and values."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from npora.machine.stored import Stored
from npora.nn import Module, Packing
from npora.nn.module import Array

Drawn = tuple[Any, tuple[Any, ...], dict[str, Any]]
Layer = TypeVar("Layer", bound=Module)


class Draw:
    """Sizes and values, by a generator; `scale` is the size of what is experimented on: a function's inputs, or a
    layer's parameters."""

    def __init__(self, rng: np.random.Generator, scale: float = 1.0) -> None:
        self.rng, self.scale = rng, scale

    def sizes(self, count: int) -> list[int]:
        """Pairwise distinct, so that a missing transpose cannot hide."""
        return [int(size) for size in self.rng.permutation(np.arange(2, 9))[:count]]

    def normal(self, *shape: int) -> Array:
        return self.rng.standard_normal(shape)

    def scaled(self, *shape: int) -> Array:
        return self.scale * self.normal(*shape)

    def moved(self, layer: Layer) -> Layer:
        """The layer with parameters of size `scale` around where they start, none of them special; what is stored
        stays."""
        for parameter in layer.parameters():
            if isinstance(parameter.data, Stored):
                continue
            base = parameter.data if self.scale >= 1 else parameter.data * self.scale
            parameter.data = (base + 0.5 * self.scale * self.normal(*parameter.shape)).astype(parameter.dtype)
        return layer

    def packing(self) -> Packing:
        return Packing.of_lengths([int(n) for n in self.rng.integers(1, 5, size=3)])


Draws = Callable[[Draw], Drawn]


def call(layer: Any, /, *inputs: Any, **keywords: Any) -> Drawn:
    """The layer, and what it is called with."""
    return layer, inputs, keywords


def fixed(make: Callable[[], Any], *inputs: Array | tuple[int, ...], **keywords: Any) -> Draws:
    """Of one size: of each input either the shape is given, or all of it; the keywords are copied for each draw."""

    def drawn(d: Draw) -> Drawn:
        layer = d.moved(make())
        values = [d.normal(*x) if isinstance(x, tuple) else x for x in inputs]
        return layer, tuple(values), copy.deepcopy(keywords)

    return drawn


@dataclass(frozen=True)
class Row:
    """Something with a pullback.

    name : what `npora gradcheck NAME` and the tests call it: one word in lower case; a class's name where it is a part
        of a model; with something after a comma where it varies another row
    drawn : makes it, and what it is called with
    row_wise : it takes any leading axes, and treats each row alone
    frozen_rounds : with frozen parameters it computes the same in another order
    """

    name: str
    drawn: Draws
    row_wise: bool = False
    frozen_rounds: bool = False

    @property
    def listed(self) -> bool:
        """Is it neither a part nor a variation?"""
        return self.name.isidentifier() and self.name.islower()

    def draw(self, seed: int = 0, scale: float = 1.0) -> Drawn:
        """(layer, inputs, keywords): shapes and values by `seed`, the inputs or parameters of size `scale`."""
        return self.drawn(Draw(np.random.default_rng([seed, *self.name.encode()]), scale))
