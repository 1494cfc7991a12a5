"""What an exercise is: a function that is given, the one that is to be written, and what both are called with."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from npora.nn import functional
from npora.nn.module import Array

Function = Callable[..., Any]
# No size is 1, and no two axes of an exercise are of one size: a wrong axis, sum or transpose shows in the shape.
SIZES = {"b": 2, "g": 2, "r": 2, "t": 3, "d": 4, "i": 4, "m": 4, "n": 5, "s": 5, "h": 6, "v": 6, "o": 7, "f": 8}
LEGEND = dict(re.findall(r"`([a-z])`\s+([^`,;]+)[,;.]", functional.__doc__ or ""))
LETTERS = {**LEGEND, "n": "rows", "i": "features in", "o": "features out"}


@dataclass(frozen=True)
class Argument:
    """One thing that the functions of an exercise are called with.

    axes : its axis letters, as "n i", whose sizes are SIZES; make : the k-th one of an rng
    """

    axes: str
    make: Callable[[np.random.Generator, int], Any]

    @property
    def shape(self) -> str:
        return f" [{self.axes.replace(' ', ',')}]" if self.axes else ""


@dataclass(frozen=True)
class Exercise:
    """An exercise, of which all that a student reads and that judges is made.

    forward : the function that is given; its docstring is the formula. None where what is to be written is no backward
    solution : the function that is to be written, `backward(dy, …)` with the arguments of forward behind dy; where
        there is no forward, its docstring says what it is to return
    says : what it is about, and what to look out for
    hints : three, each of which says more
    arguments : what they are called with, in order; those behind * are constants, which have no gradient
    dy : the axis letters of the upstream gradient
    named : numbers and arrays by name, of the arguments of `solution`, that a mistake can be told by
    returns : where there is no forward, what the solution returns, by name
    page : the class or function of npora that says the same
    imports : what forward needs beside NumPy
    """

    solution: Function
    says: str
    hints: tuple[str, str, str]
    arguments: Mapping[str, Argument]
    forward: Function | None = None
    dy: str = ""
    named: Callable[..., Mapping[str, Any]] | None = None
    page: Any = None
    imports: str = ""
    returns: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.given.__name__

    @property
    def wanted(self) -> tuple[str, ...]:
        """The names of what is to be returned: a gradient for each input, or `returns`."""
        return self.returns or tuple(f"d{name}" for name in self.inputs)

    @property
    def inputs(self) -> list[str]:
        """The names of the arguments that are no constants."""
        constants = keyword_only(self.given)
        return [name for name in self.arguments if name not in constants]

    @property
    def given(self) -> Function:
        """The function that says what is called with what: forward, or else the solution."""
        return self.forward or self.solution

    @property
    def hole(self) -> str:
        """The name of the function that is to be written."""
        return "backward" if self.forward else self.name

    def draw(self, k: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The k-th inputs and constants."""
        rng = np.random.default_rng([k, *self.name.encode()])
        drawn = {name: argument.make(rng, k) for name, argument in self.arguments.items()}
        for array in drawn.values():
            if isinstance(array, np.ndarray):
                array.flags.writeable = False
        names = self.inputs
        return tuple(drawn[name] for name in names), {name: x for name, x in drawn.items() if name not in names}


def keyword_only(function: Function) -> set[str]:
    code = function.__code__
    return set(code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount])


def normal(axes: str) -> Argument:
    return Argument(axes, lambda r, k: np.asarray(r.standard_normal(shape_of(axes))))


def uniform(axes: str) -> Argument:
    return Argument(axes, lambda r, k: r.uniform(0, 1, shape_of(axes)))


def positive(axes: str) -> Argument:
    return Argument(axes, lambda r, k: r.uniform(0.5, 2, shape_of(axes)))


def coin(axes: str) -> Argument:
    """Yes or no, both at least once in each row."""

    def make(r: np.random.Generator, k: int) -> Array:
        yes: Array = r.random(shape_of(axes)) < 0.6
        yes[..., 0], yes[..., -1] = True, False
        return yes

    return Argument(axes, make)


def given(*values: Any, axes: str = "") -> Argument:
    """The k-th of the values, and then from the first one on."""
    return Argument(axes, lambda r, k: values[k % len(values)])


def whole(axes: str, below: str) -> Argument:
    """Whole numbers of an axis's range: the first and last are one, the second is 0, which some take for padding."""

    def make(r: np.random.Generator, k: int) -> Array:
        numbers = r.integers(0, SIZES[below], shape_of(axes))
        numbers.flat[1], numbers.flat[-1] = 0, numbers.flat[0]
        return numbers

    return Argument(axes, make)


def shape_of(axes: str) -> tuple[int, ...]:
    """The sizes of axes, given by their letters."""
    return tuple(SIZES[letter] for letter in axes.split())
