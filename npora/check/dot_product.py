"""The dot-product test: a few forwards, whatever the number of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from npora.check.report import Element, Row
from npora.check.richardson import noise_level, norm, phi
from npora.check.subject import Outputs, Subject
from npora.check.verdict import FAIL, KINK, PASS, ROUNDING, UNRESOLVED, VACUOUS, is_rounding, precision_of
from npora.machine.blocks import BLOCK
from npora.nn.module import Array

DIRECTIONS = 3
LARGE = 1_000_000  # with more parameters than these, time and memory are saved wherever they can be


class Direction:
    """A direction v, whose arrays are drawn from the seed when they are first asked for.

    In tensor T its elements are w_T N(0, 1) with w_T = 1 / max(‖g_T‖, G / 2⁶), up to a factor, for the pullback's g_T
    and the largest of their norms, G: tensors with small gradients are heard beside the others, but not the rounding of
    those with next to none. Gaussian directions see an error of any shape with the same power: |⟨e, v⟩| is below a
    hundredth of ‖e‖ in 0.8 of 100 draws, whatever e is, while ±1 misses a swapped pair half of the time.
    """

    def __init__(self, names: list[str], seed: int, shapes: Mapping[str, tuple[int, ...]], norms: Mapping[str, float]):
        self.names, self.seed, self.shapes = names, seed, shapes
        self._drawn: dict[str, Array] = {}
        least = max(norms.values()) / 2**6
        self.weights = {name: least / max(norms[name], least) if least else 1.0 for name in names}

    def __getitem__(self, name: str) -> Array:
        if name not in self._drawn:
            self._drawn[name] = self._draw(name)
        return self._drawn[name]

    def _draw(self, name: str) -> Array:
        rng = np.random.Generator(np.random.SFC64([self.seed, *name.encode()]))
        drawn: Array = rng.standard_normal(self.shapes[name], np.float32)
        drawn *= np.float32(self.weights[name])
        return drawn

    def draw_all(self) -> None:
        """At once, on all cores."""
        with ThreadPoolExecutor() as pool:
            self._drawn.update(zip(self.names, pool.map(self._draw, self.names), strict=True))

    @property
    def norm(self) -> float:
        """The expected ‖v‖₂."""
        return math.sqrt(sum(self.weights[name] ** 2 * math.prod(self.shapes[name]) for name in self.names))


class Probe(Protocol):
    """What knows the forward's derivatives."""

    def along(self, v: Direction) -> tuple[float, float]:
        """(⟨dy, J v⟩, its error bar)"""

    def has_kink(self, v: Direction, slope: float) -> bool:
        """Are there two slopes along v, with this one between them?"""


@dataclass(frozen=True)
class DotProducts:
    """⟨dy, J v⟩ = ⟨Jᵀ dy, v⟩ for Gaussian v: left a derivative along v of the forward alone, right the pullback's.

    The tolerance is 2¹⁰ u ‖(Jᵀ dy) ⊙ v‖₂: the sides are sums with independent roundings. analytic : Jᵀ dy, by name;
    again : the same in the other precision, once or more, asked where the sides differ; idle : what its layer declares
    to be zero.
    """

    subject: Subject
    probe: Probe
    analytic: Mapping[str, Array]
    again: Callable[[], list[dict[str, Array]]]
    idle: Collection[str]

    def rows(self, rng: np.random.Generator) -> Iterator[Row]:
        """A row for each of a few v through all inputs and parameters at once.

        Where one fails, a row for each tensor that does follows; where none does, one for each tensor so small that it
        could be all wrong unseen.
        """
        u = precision_of(self.subject.dtype).u
        norms = {name: norm(g) for name, g in self.analytic.items()}
        shapes = {name: g.shape for name, g in self.analytic.items()}
        failed, floor, unseen = False, 0.0, 0.0
        for number in range(1 if self.subject.size > LARGE else DIRECTIONS):
            v = Direction(list(self.analytic), int(rng.integers(2**63)), shapes, norms)
            row, scale = self._row(f"everything, direction {number}", v)
            failed |= row.verdict == FAIL
            floor, unseen = max(floor, 2.0**10 * u * scale), max(unseen, row.caught * scale if scale else 0.0)
            yield row
        for name in self.analytic:
            v = Direction([name], int(rng.integers(2**63)), shapes, norms)
            if failed:
                row, _ = self._row(name, v, floor)
                if row.verdict == FAIL:
                    yield row
            elif name not in self.idle and unseen > 2.0**-6 * v.weights[name] * norms[name]:
                verdict, why = (UNRESOLVED, "too small beside the others") if norms[name] else (VACUOUS, "zero")
                yield Row(name, "dot product", verdict, why, shapes[name])

    def _row(self, label: str, v: Direction, floor: float = 0.0) -> tuple[Row, float]:
        numeric, bar = self.probe.along(v)
        total, scale = _product(self.analytic, v)
        tolerance = max(2.0**10 * precision_of(self.subject.dtype).u * scale, bar, floor)
        verdict, note = self._verdict(v, total, numeric, tolerance, scale)
        size = sum(self.analytic[name].size for name in v.names)
        difference = abs(total - numeric)
        ratio = difference / tolerance if tolerance else (0.0 if difference == 0 else np.inf)
        worst = Element(label, (), total, numeric, float(ratio))
        caught = tolerance / scale if scale else np.inf
        return Row(label, "dot product", verdict, note, (size,), size, worst, caught), scale

    def _verdict(self, v: Direction, total: float, numeric: float, tolerance: float, scale: float) -> tuple[str, str]:
        error = abs(total - numeric)
        if error <= tolerance:
            if scale == 0:
                return VACUOUS, "zero"
            return (PASS, "") if tolerance <= 2.0**-6 * scale else (UNRESOLVED, "too small to tell")
        if self.subject.size <= LARGE and self._is_rounding(v, error, numeric):
            return UNRESOLVED, ROUNDING
        if self.probe.has_kink(v, total):
            return KINK, "the slopes to both sides differ, and the pullback's is between"
        return FAIL, "⟨dy, J v⟩ and ⟨Jᵀ dy, v⟩ differ"

    def _is_rounding(self, v: Direction, error: float, numeric: float) -> bool:
        if self.subject.dtype == np.float64:  # single precision's roundings may cancel along v, but not in their norm
            there = [_product({n: g[n] - self.analytic[n] for n in v.names}, v)[1] for g in self.again()]
        else:
            there = [abs(_product(g, v)[0] - numeric) for g in self.again()]
        return bool(there) and is_rounding(self.subject.dtype, error, max(there))


def _product(gradients: Mapping[str, Array], v: Direction) -> tuple[float, float]:
    """(⟨g, v⟩, ‖g ⊙ v‖)"""
    squares = total = 0.0
    for name in v.names:
        for part, along in _blocks(gradients[name], v[name]):
            terms = np.multiply(along, part, dtype=np.float64)
            total += float(terms.sum())
            squares += float(np.vdot(terms, terms))
    return total, math.sqrt(squares)


def _blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Views of some rows of arrays of one shape, which fit the cache where the arrays do not."""
    arrays = tuple(np.atleast_1d(*arrays))
    rows = len(arrays[0])
    at_once = max(BLOCK * rows // arrays[0].size, 1)
    for start in range(0, rows, at_once):
        yield tuple(array[start : start + at_once] for array in arrays)


class RealProbe:
    """Central differences of the float64 forward, on arrays that are moved in place, for what is too large for more.

    The step is 2⁻¹⁰ over the norm of v. For a float32 backward one difference is far better than what it is compared
    with; in float64 a second one with half the step gives a Richardson value and its error bar.
    """

    def __init__(self, subject: Subject, dy: Outputs) -> None:
        self.bench, self.dy = subject.at(np.float64), dy
        self.steps = 1 if subject.dtype == np.float32 else 2
        self.place: tuple[Direction, float] | None = None  # where the arrays are: t along a direction

    def along(self, v: Direction) -> tuple[float, float]:
        v.draw_all()
        found: list[float] = []
        size = 0.0
        for h in (2.0**-10 / v.norm, 2.0**-11 / v.norm)[: self.steps]:
            up, down = self._phi(v, h), self._phi(v, -h)
            size = max(size, abs(up), abs(down))
            found.append((up - down) / (2 * h))
        bar = 2 * noise_level([size], 2**6 * size) / h
        if len(found) == 1:
            return found[0], bar
        return (4 * found[1] - found[0]) / 3, bar + abs(found[1] - found[0])

    def has_kink(self, v: Direction, slope: float) -> bool:
        return False  # one among so many weighs nothing

    def _phi(self, v: Direction, t: float) -> float:
        """φ at t along v, in one move from wherever the arrays are."""
        before, old = self.place or (v, 0.0)
        if before is not v:
            self._move(before, -old)
            old = 0.0
        self._move(v, t - old)
        self.place = v, t
        return phi(self.bench, self.dy)

    def _move(self, v: Direction, t: float) -> None:
        for name in v.names if t else ():
            for x, along in _blocks(self.bench.arrays[name], v[name]):
                x += along * np.float64(t)
