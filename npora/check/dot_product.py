"""The dot-product test: a few forwards, whatever the number of parameters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from npora.check.complex_step import complex_slope
from npora.check.report import Element, Row
from npora.check.richardson import noise_level, phi
from npora.check.subject import Bench, Outputs, Subject
from npora.check.verdict import FAIL, PASS, UNRESOLVED, VACUOUS, precision_of
from npora.nn.module import Array

DIRECTIONS = 3
LARGE = 1_000_000  # with more elements the derivative along v is taken by real differences, to save memory and time


def dot_products(
    subject: Subject, bench: Bench, dy: Outputs, analytic: dict[str, Array], rng: np.random.Generator
) -> Iterator[Row]:
    """⟨dy, J v⟩ = ⟨Jᵀ dy, v⟩ for Gaussian v over all inputs and parameters at once: a row for each of a few v.

    The left side is a derivative along v of the forward alone, the right side the pullback's. Gaussian directions see
    an error of any shape with the same power: |⟨e, v⟩| is below a hundredth of ‖e‖ in 0.8 of 100 draws, whatever e is,
    while ±1 misses a swapped pair half of the time. The tolerance is 2¹⁰ u ‖(Jᵀ dy) ⊙ v‖₂: the sides are sums with
    independent roundings. Where a row fails, one row for each tensor that does follows.

    Up to 1,000,000 elements Jv comes from a complex step, beyond that from differences of the float64 forward.
    """
    exact = tuple(w.astype(np.float64) for w in dy)
    elements = sum(x.size for x in subject.point.values())
    probe = _ComplexProbe(subject, exact) if elements <= LARGE else _RealProbe(subject, exact)
    p = precision_of(subject.dtype)
    failed, floor = False, 0.0
    for number in range(1 if elements > LARGE else DIRECTIONS):
        seed = int(rng.integers(2**63))
        row, scale = _row(f"everything, direction {number}", list(subject.point), seed, probe, analytic, p.u)
        failed |= row.verdict == FAIL
        floor = max(floor, 2.0**10 * p.u * scale)
        yield row
    if failed:
        for name in subject.point:
            row, _ = _row(name, [name], int(rng.integers(2**63)), probe, analytic, p.u, floor)
            if row.verdict == FAIL:
                yield row


class _ComplexProbe:
    def __init__(self, subject: Subject, dy: Outputs) -> None:
        self.bench, self.dy, self.bar = subject.at(np.complex128), dy, 0.0

    def slope(self, names: list[str], seed: int) -> float:
        return complex_slope(self.bench, self.dy, {name: direction(self.bench, name, seed) for name in names})


class _RealProbe:
    """Two central differences, h and h/2, that must agree; directions are drawn anew rather than kept."""

    def __init__(self, subject: Subject, dy: Outputs) -> None:
        self.bench, self.dy, self.bar = subject.at(np.float64), dy, 0.0

    def slope(self, names: list[str], seed: int) -> float:
        h = 2.0**-20
        values: list[float] = []
        for t in (h, -2 * h, h):  # to +h, to −h, and back
            for name in names:
                self.bench.arrays[name] += t * direction(self.bench, name, seed)
            values.append(phi(self.bench, self.dy) if len(values) < 2 else 0.0)
        size = max(abs(values[0]), abs(values[1]))
        self.bar = 2 * noise_level([values[0]], 2**6 * size) / h
        return (values[0] - values[1]) / (2 * h)


def direction(bench: Bench, name: str, seed: int) -> Array:
    """A Gaussian direction for one array, the same for the same seed."""
    key = [seed, *name.encode()]
    return np.random.default_rng(key).standard_normal(bench.arrays[name].shape)


def _row(
    label: str,
    names: list[str],
    seed: int,
    probe: _ComplexProbe | _RealProbe,
    analytic: dict[str, Array],
    u: float,
    floor: float = 0.0,
) -> tuple[Row, float]:
    numeric = probe.slope(names, seed)
    products = total = 0.0
    for name in names:
        terms = analytic[name].astype(np.float64) * direction(probe.bench, name, seed)
        total += float(terms.sum())
        products += float((terms * terms).sum())
    scale = products**0.5
    tolerance = max(2.0**10 * u * scale, probe.bar, floor)
    difference = abs(total - numeric)
    if not difference <= tolerance:
        verdict = FAIL
    elif scale == 0:
        verdict = VACUOUS
    else:
        verdict = PASS if tolerance <= 2.0**-6 * scale else UNRESOLVED
    size = sum(analytic[name].size for name in names)
    ratio = difference / tolerance if tolerance else (0.0 if difference == 0 else np.inf)
    note = "⟨dy, J v⟩ and ⟨Jᵀ dy, v⟩ differ" if verdict == FAIL else ""
    worst = Element(label, (), total, numeric, float(ratio))
    caught = tolerance / scale if scale else np.inf
    return Row(label, "dot product", verdict, note, (size,), size, worst, caught), scale
