"""Which of the named shares of a gradient is missing or wrong, or which named gradient came in its place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from npora.check.verdict.causes import named_factor
from npora.check.verdict.evidence import Evidence, factor
from npora.nn.module import Array

_USUAL = {"3": 3.0, "π": math.pi, "2π": 2 * math.pi, "π/2": math.pi / 2}
_SAYS = {-1.0: "missing", 1.0: "there once too often", -2.0: "there with the wrong sign"}
Known = dict[str, Array]


def told(e: Evidence, named: Mapping[str, Array], factors: Mapping[str, float]) -> Iterator[str]:
    """named : shares of the right gradient, and whole wrong ones, whose names begin with "the gradient". One share is
    tried, then what came as a whole, then one share that is too large or too small, then two shares."""
    shares: Known = {}
    for name, array in named.items():
        x = e.spread(array)
        if x is not None and np.abs(x).max(initial=0.0) > e.close and np.count_nonzero(x) > 1:
            shares[name] = x
    parts = {name: x for name, x in shares.items() if not name.startswith("the gradient")}
    for times, says in _SAYS.items():
        yield from (f"{name} is {says}" for name, x in parts.items() if e.fits(e.error - times * x))
    for name, x in shares.items():
        if e.fits(e.came - x):
            yield f"this is {name}"
    for name, x in parts.items():
        c = 1 + factor(e.error, x)
        if name.startswith("the share") and abs(c) > 1e-9 and e.fits(e.error - (c - 1) * x, c):
            yield f"{name} is {c:.6g} times what it should be{named_factor(c, e.shape, {**factors, **_USUAL})}"
    for name, x in parts.items():
        c, d = _both(e.came, e.right, x)
        often = _SAYS.get(_whole(d / c)) if c else None
        if often and (size := named_factor(c, e.shape, factors)) and len(e.came) > 4:
            if e.fits(e.came - c * e.right - d * x):
                yield f"a constant factor {c:.6g}{size}, and {name} is {often}"
    for (one, x), (other, y) in combinations(parts.items(), 2):
        c, d = map(_whole, _both(e.error, x, y))
        if len(e.came) < 5 or not e.fits(e.error - c * x - d * y):
            continue
        if c in _SAYS and d in _SAYS:
            yield f"{one} is {_SAYS[c]}, and {other} is {_SAYS[d]}"
        elif abs(c - d) < 1e-6 and (size := named_factor(1 + c, e.shape, {**factors, **_USUAL})):
            yield f"{one} and {other} are {1 + c:.6g} times what they should be{size}"


def _whole(c: float) -> float:
    return round(c) if np.isfinite(c) and abs(c - round(c)) < 1e-6 else c


def _both(error: Array, x: Array, y: Array) -> tuple[float, float]:
    """The factors by which two arrays together come nearest."""
    found, *_ = np.linalg.lstsq(np.stack([x, y], axis=1), error, rcond=None)
    return float(found[0]), float(found[1])
