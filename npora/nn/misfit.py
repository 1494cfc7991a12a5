"""Tensors are compared with those that were expected, and what does not fit is said by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy.typing as npt

Tensors = Mapping[str, npt.NDArray[Any]]
Shapes = Mapping[str, tuple[int, ...]]
_MOST = 12  # tensors of one kind that a message names


class Misfit(NamedTuple):
    """A Misfit has the names of the tensors that do not fit, by kind. Who lets some of them pass replaces that list."""

    missing: list[str]
    unexpected: list[str]
    misshapen: list[str]
    no_floats: list[str]

    @classmethod
    def of(cls, tensors: Tensors, shapes: Shapes, kinds: str = "f") -> Misfit:
        """Compare the tensors that came with the shapes that were expected. kinds : NumPy's letters of usable dtypes"""
        both = [name for name in shapes if name in tensors]
        return cls(
            missing=[name for name in shapes if name not in tensors],
            unexpected=[name for name in tensors if name not in shapes],
            misshapen=[name for name in both if tensors[name].shape != shapes[name]],
            no_floats=[name for name in both if tensors[name].dtype.kind not in kinds],
        )

    def said(self, tensors: Tensors, shapes: Shapes, why: Callable[[str], str] = lambda name: "") -> list[str]:
        """Say what is wrong, tensor by tensor. why : what is said behind an unexpected name"""
        return [
            *some(f"missing: {name}" for name in self.missing),
            *some(f"unexpected: {name}{why(name)}" for name in self.unexpected),
            *some(f"{name} has shape {tensors[name].shape}, expected {shapes[name]}" for name in self.misshapen),
            *some(
                f"{name} is {tensors[name].dtype}: npora computes with floating point, and does not read quantized "
                "weights"
                for name in self.no_floats
            ),
        ]


def some(sentences: Iterable[str]) -> list[str]:
    """Return the first dozen, and how many more there are."""
    every = list(sentences)
    more = len(every) - _MOST
    return every if more <= 0 else [*every[:_MOST], f"and {more} more of this kind"]
