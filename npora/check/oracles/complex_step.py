"""The complex step: derivatives to rounding, with no step to choose."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from npora.check.outputs import Outputs
from npora.check.subject import Bench
from npora.nn.module import Array

STEP = 1e-20
Index = tuple[int, ...]


def complex_step(bench: Bench, dy: Outputs, name: str, indices: Iterable[Index], h: float = STEP) -> Array:
    """∂φ/∂x_i = Im φ(x + i h e_i) / h for φ = ⟨dy, f⟩, one complex forward a coordinate.

    The Taylor series φ(x + ih) = φ + ih φ′ − h² φ″/2 − … has φ′ alone in its imaginary part, to order h²: with
    h = 1e-20 the next term is below any rounding, and nothing is subtracted (Squire and Trapp, 1998; Martins, Sturdza
    and Alonso, 2003). `bench` is complex128. The forward must be analytic: |x|, conj, var and casts to float are not.
    """
    x = bench.arrays[name]
    found = []
    with _casts_are_errors():
        for index in indices:
            value = x[index]
            x[index] = value + 1j * h
            found.append(_slope(bench, dy, h))
            x[index] = value
    return np.array(found)


def complex_slope(bench: Bench, dy: Outputs, directions: dict[str, Array]) -> float:
    """⟨dy, J v⟩, the derivative of φ along v, in one complex forward."""
    before = {name: bench.arrays[name].copy() for name in directions}
    for name, v in directions.items():
        bench.arrays[name] += 1j * STEP * v.astype(np.float64)
    found = slope(bench, dy)
    for name, value in before.items():
        bench.arrays[name][...] = value
    return found


def slope(bench: Bench, dy: Outputs, h: float = STEP) -> float:
    """Im φ / h, wherever the bench has been moved to. Losing an imaginary part in a cast is an error, not a warning."""
    with _casts_are_errors():
        return _slope(bench, dy, h)


def _slope(bench: Bench, dy: Outputs, h: float) -> float:
    return sum(float(np.sum(w * y.imag)) for w, y in zip(dy, bench.outputs(), strict=True)) / h


@contextmanager
def _casts_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        yield
