"""The same gradient in low precision and in float64 at points around the first: a rounding varies, an error stays."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import numpy as np

from npora.check.outputs import Outputs
from npora.check.subject import Subject
from npora.check.verdict.comparison import precision_of
from npora.nn.module import Array

Gradients = dict[str, Array]
Right = Callable[[Subject, Outputs, Gradients], Gradients]
REACH = 2.0**4  # the points are so many u of each number away: every rounding falls otherwise there
ERRORS = 8  # standard errors of a mean of 16, beyond which no element of thousands lies by chance


def around(
    kernel: Subject, dy: Outputs, points: int, right: Right, rng: np.random.Generator
) -> Iterator[tuple[Gradients, Gradients]]:
    """What the kernel gives and what is right, at numbers of its own precision; nothing where it is not defined."""
    reach = REACH * precision_of(kernel.dtype).u

    def beside(x: Array) -> Array:
        wide = x.astype(np.float64)
        return np.asarray(wide * (1 + reach * rng.uniform(-1, 1, wide.shape))).astype(kernel.dtype)

    for _ in range(points):
        bench, exact = kernel.at(kernel.dtype), copy.copy(kernel.exact)
        vars(exact).pop("exact", None)
        exact.point = {name: beside(x).astype(np.float64) for name, x in kernel.point.items()}
        for name, x in bench.arrays.items():
            x[...] = exact.point[name]
        upstream = tuple(beside(w).astype(w.dtype) for w in dy)
        try:
            came = {name: np.array(g, np.float64) for name, g in bench.gradients(bench.forward()[1], upstream).items()}
            found = right(exact, tuple(w.astype(np.float64) for w in upstream), came)
        except (ValueError, ArithmeticError, LookupError):  # out of the function's domain
            continue
        if all(np.isfinite(g).all() for g in found.values()):
            yield came, found


def by_pullback(exact: Subject, dy: Outputs, came: Gradients) -> Gradients:
    """As the pullback in float64 gives it."""
    bench = exact.at(np.float64)
    return {name: np.array(g) for name, g in bench.gradients(bench.forward()[1], dy).items()}


def is_systematic(errors: Array) -> bool:
    """errors [points, elements]: is that of any element the same from point to point, too much so to be rounding?"""
    if len(errors) < 2:
        return False
    bar = ERRORS * errors.std(axis=0, ddof=1) / np.sqrt(len(errors))
    return bool((np.abs(errors.mean(axis=0)) > bar).any())
