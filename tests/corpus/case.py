"""What the corpus is made of: right functions and what draws their inputs; wrong ones, each beside its right one."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npora.nn.module import Array

Function = Callable[..., Any]


class Source(np.random.Generator):
    """Numbers from a name and a seed. mild : small conditions and no scales, so that differences can judge."""

    def __init__(self, name: str, seed: int, mild: bool = False) -> None:
        super().__init__(np.random.PCG64([zlib.crc32(name.encode()), seed]))
        self.mild = mild


Draw = Callable[[Source], Any]


@dataclass(frozen=True)
class Right:
    name: str
    function: Function
    draws: tuple[Draw, ...]

    def inputs(self, seed: int, mild: bool = False) -> tuple[Any, ...]:
        source = Source(self.name, seed, mild)
        return tuple(draw(source) for draw in self.draws)


@dataclass(frozen=True)
class Wrong:
    """error : of the gradient, where it cannot be computed at a point: a mistake of conduct, not of a formula.
    upstream : the size of dy at which the mistake shows. refused : the check may raise and say what the matter is."""

    name: str
    function: Function
    partner: Right
    error: float | None = None
    upstream: float = 1.0
    refused: bool = False


RIGHT: dict[str, Right] = {}
WRONG: dict[str, Wrong] = {}


def _add(case: Any, cases: dict[str, Any]) -> None:
    if case.name in cases:
        raise ValueError(f"there are two functions named {case.name!r}: give each a name of its own")
    cases[case.name] = case


def right(*draws: Draw) -> Callable[[Function], Function]:
    """Enter a function that returns (y, backward)."""

    def enter(function: Function) -> Function:
        _add(Right(function.__name__, function, draws), RIGHT)
        return function

    return enter


def pair(name: str, draws: list[Draw], f: Function, vjp: Function) -> Function:
    """Enter y = f(x, …) with the gradients vjp(dy, x, …)."""
    function = joined(name, f, vjp)
    _add(Right(name, function, tuple(draws)), RIGHT)
    return function


def elementwise(name: str, draw: Draw, f: Function, slope: Function) -> Function:
    """Enter y = f(x) with dx = f′(x) dy."""
    return pair(name, [draw], f, lambda dy, x: slope(x) * dy)


def joined(name: str, f: Function, vjp: Function) -> Function:
    @functools.wraps(f)
    def function(*inputs: Any) -> Any:
        return f(*inputs), lambda *dy: vjp(*dy, *inputs)

    function.__name__ = name
    return function


def wrong(partner: str, mistake: str, vjp: Function, **size: Any) -> None:
    """Enter the partner with vjp(dy, x, …) in place of its pullback."""
    own = RIGHT[partner]

    def f(*inputs: Any) -> Any:
        return own.function(*inputs)[0]

    f.__wrapped__ = own.function  # type: ignore[attr-defined]  # its names of the inputs
    _add(Wrong(f"{partner}: {mistake}", joined(mistake, f, vjp), own, **size), WRONG)


def spoilt(partner: str, mistake: str, spoil: Function, **size: Any) -> None:
    """Enter the partner with spoil(gradient, dy, x, …) in place of its only gradient."""
    own = RIGHT[partner].function
    wrong(partner, mistake, lambda dy, *inputs: spoil(own(*inputs)[1](dy), dy, *inputs), **size)


def misbehaved(partner: str, mistake: str, **size: Any) -> Callable[[Function], Function]:
    """Enter a whole function that stands for the partner."""

    def enter(function: Function) -> Function:
        _add(Wrong(f"{partner}: {mistake}", function, RIGHT[partner], **size), WRONG)
        return function

    return enter


def true(partner: str, dy: Any, *inputs: Any) -> Any:
    """The right gradients, for a mistake that spoils but one of them; dy is a tuple where the outputs are."""
    backward = RIGHT[partner].function(*inputs)[1]
    return backward(*dy) if isinstance(dy, tuple) else backward(dy)


def only_first(partner: str, mistake: str, change: Function) -> None:
    """Enter the partner with change(gradient, dy, x, …) in place of the first of its gradients."""

    def vjp(dy: Array, *inputs: Any) -> Any:
        found = true(partner, dy, *inputs)
        return (change(found[0], dy, *inputs), *found[1:])

    wrong(partner, mistake, vjp)


def only_last(partner: str, mistake: str, change: Function) -> None:
    def vjp(dy: Array, *inputs: Any) -> Any:
        found = true(partner, dy, *inputs)
        return (*found[:-1], change(found[-1], dy, *inputs))

    wrong(partner, mistake, vjp)


def n(*shape: int) -> Draw:
    return lambda r: np.asarray(r.standard_normal(shape))


def between(low: float, high: float, *shape: int) -> Draw:
    return lambda r: np.asarray(r.uniform(low, high, shape))


def mildly(draw: Draw, mild: Draw) -> Draw:
    """Where the first is ill-conditioned, and the second not."""
    return lambda r: (mild if r.mild else draw)(r)


def whole(high: int, *shape: int) -> Draw:
    return lambda r: np.asarray(r.integers(0, high, shape))


def order(size: int) -> Draw:
    return lambda r: r.permutation(size)


def coin(*shape: int) -> Draw:
    """Yes or no, never all the same."""

    def draw(r: Source) -> Array:
        yes = r.random(shape) < 0.6
        yes.flat[0], yes.flat[-1] = True, False
        return yes

    return draw


def apart(*shape: int) -> Draw:
    """No two of them near each other."""
    size = int(np.prod(shape))
    return lambda r: ((r.permutation(size) + r.uniform(0.1, 0.7, size)) * 3 / size - 1.5).reshape(shape)


def rising(size: int) -> Draw:
    return lambda r: np.cumsum(r.uniform(0.3, 1.0, size))


def scaled(draw: Draw, decades: float = 150) -> Draw:
    """Times a power of ten between the decades."""
    return lambda r: draw(r) * (1.0 if r.mild else 10.0 ** r.uniform(-decades, decades))


def _rotation(r: Source, size: int) -> Array:
    return np.linalg.qr(r.standard_normal((size, size)))[0]


def _spectrum(r: Source, size: int, decades: float) -> Array:
    """From 1 down to the condition's inverse, each a little off the even logarithmic spacing."""
    condition = r.uniform(0.5, 1.0 if r.mild else decades)
    return 10.0 ** -(np.linspace(0, condition, size) + r.uniform(-0.02, 0.02, size))


def matrix(rows: int, columns: int | None = None, decades: float = 12) -> Draw:
    """Of a condition between 3 and 10^decades."""

    def draw(r: Source) -> Array:
        width = columns or rows
        size = min(rows, width)
        return (_rotation(r, rows)[:, :size] * _spectrum(r, size, decades)) @ _rotation(r, width)[:size]

    return draw


def definite(size: int, decades: float = 12) -> Draw:
    """Symmetric and positive definite, of a condition between 3 and 10^decades."""

    def draw(r: Source) -> Array:
        Q = _rotation(r, size)
        A = (Q * _spectrum(r, size, decades)) @ Q.T
        return (A + A.T) / 2

    return draw


def fixed(*shape: int, seed: int = 0) -> Array:
    """A constant of a function."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)
