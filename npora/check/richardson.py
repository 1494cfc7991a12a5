"""Central differences with an honest error bar: the second oracle, which asks nothing of the forward."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from npora.check.complex_step import Index
from npora.check.subject import Bench, Outputs
from npora.nn.module import Array

STEPS = tuple(2.0 ** -(4 + 2 * level) for level in range(7))  # 2⁻⁴, 2⁻⁶, …, 2⁻¹⁶
U = 2.0**-53


def phi(bench: Bench, dy: Outputs) -> float:
    """φ = ⟨dy, f⟩."""
    return sum(float(np.sum(w * y)) for w, y in zip(dy, bench.outputs(), strict=True))


def noise_level(values: list[float], size: float) -> float:
    """The rounding noise of φ from its values at 7 neighbouring points, and never below 4 u of the terms' size.

    In a table of k-th differences noise of variance σ² has the mean square (2k)!/(k!)² σ², while the smooth part has
    died out (ECnoise: Moré and Wild, 2011). The largest of the levels 3 to 6 is taken.
    """
    table, sigma = np.array(values), 0.0
    for k in range(1, len(values)):
        table = np.diff(table)
        if k >= 3:
            sigma = max(sigma, math.sqrt(math.factorial(k) ** 2 / math.factorial(2 * k) * float(np.mean(table**2))))
    return max(sigma, 4 * U * size)


def extrapolate(function: Callable[[float], float], noise: float, scale: float = 1.0) -> tuple[float, float]:
    """(φ′(0), its error bar) from a Richardson table of central differences (Ridders, 1982).

    D_j = (φ(h_j) − φ(−h_j)) / 2h_j has an error in even powers of h, so that with h_j = h₀ 4⁻ʲ

        A_j0 = D_j,    A_jk = A_j,k−1 + (A_j,k−1 − A_j−1,k−1) / (16ᵏ − 1)

    removes one power a column. e, the larger of the differences to the two neighbours, bounds the truncation that is
    left, and 2 noise/h_j the rounding: E = 2 (e + 2 noise/h_j). The entry with the least E is taken. Steps at which φ
    is not finite (out of a domain) are left out. With none left the bar is infinite.
    """
    best, bar = math.nan, math.inf
    previous: list[float] = []
    for h in (step * scale for step in STEPS):
        up, down = function(h), function(-h)
        if not (math.isfinite(up) and math.isfinite(down)):
            previous = []
            continue
        row = [(up - down) / (2 * h)]
        for k, above in enumerate(previous, start=1):
            row.append(row[-1] + (row[-1] - above) / (16**k - 1))
            truncation = max(abs(row[k] - row[k - 1]), abs(row[k] - previous[k - 1]))
            error = 2 * (truncation + 2 * noise / h)
            if error < bar:
                best, bar = row[k], error
        previous = row
    return best, bar


def noise_of(bench: Bench, dy: Outputs, directions: dict[str, Array]) -> float:
    """The noise of φ near the point, along a direction."""
    values = [moved(bench, dy, directions, 1e-13 * step) for step in range(-3, 4)]
    size = max(abs(values[3]), *(float(np.linalg.norm(w * y)) for w, y in zip(dy, bench.outputs(), strict=True)))
    return noise_level(values, size)


def central(
    bench: Bench, dy: Outputs, name: str, indices: Iterable[Index], noise: float, finer: float = 1.0
) -> tuple[Array, Array]:
    """(∂φ/∂x_i, error bars), 14 forwards a coordinate. The largest step is max(1, |x_i|)/16, times `finer`."""
    x = bench.arrays[name]
    found, bars = [], []
    for index in indices:
        value = x[index]

        def along(t: float, index: Index = index, value: float = value) -> float:
            x[index] = value + t
            return phi(bench, dy)

        slope, bar = extrapolate(along, noise, finer * max(1.0, abs(float(value))))
        x[index] = value
        found.append(slope)
        bars.append(bar)
    return np.array(found), np.array(bars)


def central_slope(bench: Bench, dy: Outputs, directions: dict[str, Array], noise: float) -> tuple[float, float]:
    """(⟨dy, J v⟩, its error bar) by the same table along v, whose elements are of size 1."""
    return extrapolate(lambda t: moved(bench, dy, directions, t), noise)


def moved(bench: Bench, dy: Outputs, directions: dict[str, Array], t: float) -> float:
    """φ(x + t v), and back."""
    before = {name: bench.arrays[name].copy() for name in directions}
    for name, v in directions.items():
        bench.arrays[name] += t * v
    value = phi(bench, dy)
    for name, old in before.items():
        bench.arrays[name][...] = old
    return value
