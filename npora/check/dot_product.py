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
LARGE = 1_000_000  # with more parameters than these, time and memory are saved wherever they can be


def dot_products(
    subject: Subject, bench: Bench, dy: Outputs, analytic: dict[str, Array], rng: np.random.Generator
) -> Iterator[Row]:
    """⟨dy, J v⟩ = ⟨Jᵀ dy, v⟩ for Gaussian v over all inputs and parameters at once: a row for each of a few v.

    The left side is a derivative along v of the forward alone, the right side the pullback's. Gaussian directions see
    an error of any shape with the same power: |⟨e, v⟩| is below a hundredth of ‖e‖ in 0.8 of 100 draws, whatever e is,
    while ±1 misses a swapped pair half of the time. The tolerance is 2¹⁰ u ‖(Jᵀ dy) ⊙ v‖₂: the sides are sums with
    independent roundings. Where a row fails, one row for each tensor that does follows.

    Up to a million parameters, frozen ones included, Jv comes from a complex step; beyond that v is one direction, and
    Jv comes from differences of the float64 forward.
    """
    exact = tuple(w.astype(np.float64) for w in dy)
    large = subject.size > LARGE
    probe = _RealProbe(subject, exact) if large else _ComplexProbe(subject, exact)
    p = precision_of(subject.dtype)
    failed, floor = False, 0.0
    for number in range(1 if large else DIRECTIONS):
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
    """Central differences; a direction is drawn anew each time it is needed, rather than kept.

    The step is 2⁻¹⁰ over the norm of v. For a float32 backward one difference is far better than what it is compared
    with; in float64 a second one with half the step gives a Richardson value and its error bar.
    """

    def __init__(self, subject: Subject, dy: Outputs) -> None:
        self.bench, self.dy, self.bar = subject.at(np.float64), dy, 0.0
        self.steps = 1 if subject.dtype == np.float32 else 2
        self.place: tuple[list[str], int, float] = ([], 0, 0.0)  # where the arrays are: t along a direction

    def slope(self, names: list[str], seed: int) -> float:
        norm = sum(self.bench.arrays[name].size for name in names) ** 0.5
        found: list[float] = []
        size = 0.0
        for h in (2.0**-10 / norm, 2.0**-11 / norm)[: self.steps]:
            up, down = self._phi(names, seed, h), self._phi(names, seed, -h)
            size = max(size, abs(up), abs(down))
            found.append((up - down) / (2 * h))
        self.bar = 2 * noise_level([size], 2**6 * size) / h
        if len(found) == 1:
            return found[0]
        self.bar += abs(found[1] - found[0])
        return (4 * found[1] - found[0]) / 3

    def _phi(self, names: list[str], seed: int, t: float) -> float:
        """φ at t along a direction, in one move from wherever the arrays are."""
        before, old_seed, old = self.place
        if old and (before, old_seed) != (names, seed):
            self._move(before, old_seed, -old)
            old = 0.0
        self._move(names, seed, t - old)
        self.place = names, seed, t
        return phi(self.bench, self.dy)

    def _move(self, names: list[str], seed: int, t: float) -> None:
        for name in names:
            self.bench.arrays[name] += direction(self.bench, name, seed) * np.float64(t)


def direction(bench: Bench, name: str, seed: int) -> Array:
    """A Gaussian direction for one array, the same for the same seed."""
    rng = np.random.Generator(np.random.SFC64([seed, *name.encode()]))
    return np.asarray(rng.standard_normal(bench.arrays[name].shape, np.float32))


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
        terms = direction(probe.bench, name, seed) * analytic[name].astype(np.float64)
        total += float(terms.sum())
        products += float(np.vdot(terms, terms))
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
