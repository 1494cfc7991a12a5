"""The dot-product test: a few forwards, whatever the number of parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from npora.check.oracles.around import is_systematic
from npora.check.oracles.richardson import norm, unit_of
from npora.check.oracles.rounding import Rounding
from npora.check.subject import Subject
from npora.check.verdict.comparison import (
    FAIL,
    KINK,
    PASS,
    ROUNDING,
    ULPS,
    UNRESOLVED,
    VACUOUS,
    is_rounding,
    precision_of,
)
from npora.check.verdict.report import Element, Row
from npora.machine.blocks import BLOCK
from npora.nn.module import Array

DIRECTIONS = 3
UNHEARD = {1: 0.0125, 3: 0.273}  # the largest of so many |N(0, 1)| is below that in 1 of 100 draws
LARGE = 1_000_000  # with more parameters than these, time and memory are saved wherever they can be


class Direction:
    """A direction v, whose arrays are drawn from the seed when they are first asked for.

    In block B of a tensor its elements are w_B N(0, 1) with w_B = 1 / max(‖g_B‖, G / 2⁶), up to a factor, for the
    pullback's g_B and the largest of their norms, G: blocks with small gradients are heard beside the others, but not
    the rounding of those with next to none. Gaussian directions see an error of any shape with the same power: |⟨e, v⟩|
    is below a hundredth of ‖e‖ in 0.8 of 100 draws, whatever e is, while ±1 misses a swapped pair half of the time.

    All of that in the tensor's unit, where its elements are of another order of magnitude than 1.

    norms : of the blocks of every tensor, by its name, times its unit
    """

    def __init__(
        self,
        names: list[str],
        seed: int,
        shapes: Mapping[str, tuple[int, ...]],
        norms: Mapping[str, Array],
        units: Mapping[str, float],
    ) -> None:
        self.names, self.seed, self.shapes, self.units = names, seed, shapes, units
        self._drawn: dict[str, Array] = {}
        least = max(float(found.max(initial=0.0)) for found in norms.values()) / 2**6
        self.weights = {
            name: least / np.maximum(norms[name], least) if least else np.ones(len(norms[name])) for name in names
        }

    def __getitem__(self, name: str) -> Array:
        if name not in self._drawn:
            self._drawn[name] = self._draw(name)
        return self._drawn[name]

    def _draw(self, name: str) -> Array:
        rng = np.random.Generator(np.random.SFC64([self.seed, *name.encode()]))
        drawn = np.asarray(rng.standard_normal(self.shapes[name], np.float32))
        for block, weight in zip(flat_blocks(drawn), self.weights[name], strict=True):
            block *= np.float32(weight)
        return drawn if self.units[name] == 1 else drawn * np.float64(self.units[name])

    def part(self, name: str, start: int, stop: int) -> Direction:
        """v in some elements of one tensor, and 0 elsewhere."""
        found = copy.copy(self)
        kept = np.zeros(self.shapes[name], self[name].dtype)
        kept.reshape(-1)[start:stop] = self[name].reshape(-1)[start:stop]
        found.names, found._drawn = [name], {name: kept}
        return found

    def draw_all(self) -> None:
        """At once, on all cores."""
        with ThreadPoolExecutor() as pool:
            self._drawn.update(zip(self.names, pool.map(self._draw, self.names), strict=True))

    @property
    def norm(self) -> float:
        """The expected ‖v‖₂."""
        return math.sqrt(
            sum(
                float(weight) ** 2 * min(BLOCK, math.prod(self.shapes[name]) - BLOCK * k)
                for name in self.names
                for k, weight in enumerate(self.weights[name])
            )
        )


def flat_blocks(x: Array) -> Iterator[Array]:
    """An array's elements in the order of their indices, in blocks; views, where it lies in memory so."""
    flat = x.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        yield flat[start : start + BLOCK]


class Probe(Protocol):
    """What knows the forward's derivatives."""

    notes: list[str]

    @property
    def directions(self) -> int:
        """How many are taken: 1 or 3, by what they cost."""

    def along(self, v: Direction) -> tuple[float, float]:
        """(⟨dy, J v⟩, its error bar)"""

    def has_kink(self, v: Direction, slope: float) -> bool:
        """Are there two slopes along v, with this one between them?"""

    def rounding_along(self, v: Direction, numeric: float, rounding: Rounding) -> float:
        """How far the slope along v may be off by the rounding of the forward."""


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
    rounding: Rounding
    errors: Callable[[], list[dict[str, Array]]]

    def rows(self, rng: np.random.Generator) -> Iterator[Row]:
        """A row for each of a few v through all inputs and parameters at once.

        Where one fails, a row for each tensor that does follows; where none does, one for each tensor so small that
        an error in it could be unseen.
        """
        u = precision_of(self.subject.dtype).u
        units = {name: unit_of(self.subject.point[name]) for name in self.analytic}
        norms = {
            name: units[name] * np.array([norm(block) for block in flat_blocks(g)]) for name, g in self.analytic.items()
        }
        shapes = {name: g.shape for name, g in self.analytic.items()}
        failed, floor, unseen = False, 0.0, 0.0
        count = self.probe.directions
        for number in range(count):
            v = Direction(list(self.analytic), int(rng.integers(2**63)), shapes, norms, units)
            row, scale = self._row(f"everything, direction {number}", v)
            row = replace(row, alone=self._alone(v, row.caught * scale, UNHEARD[count]))
            failed |= row.verdict == FAIL
            floor, unseen = max(floor, 2.0**10 * u * scale), max(unseen, row.caught * scale if scale else 0.0)
            yield row
        for name in self.analytic:
            v = Direction([name], int(rng.integers(2**63)), shapes, norms, units)
            if failed:
                row, _ = self._row(name, v, floor)
                if row.verdict == FAIL:
                    yield replace(row, note=f"{row.note}{self._place(name, v)}")
            elif name not in self.idle:
                yield from self._unheard(name, v, unseen, norm(v.weights[name] * norms[name]))

    def _place(self, name: str, v: Direction) -> str:
        """Where a sparse error is: of the two halves of a block of elements one alone differs, time after time."""
        start, stop, u = 0, self.analytic[name].size, precision_of(self.subject.dtype).u
        while stop - start > 1 and self.subject.size <= LARGE:
            middle, wrong = (start + stop) // 2, []
            for ends in ((start, middle), (middle, stop)):
                part = v.part(name, *ends)
                numeric, bar = self.probe.along(part)
                total, scale = _product(self.analytic, part)
                if not abs(total - numeric) <= max(2.0**10 * u * scale, bar):
                    wrong.append(ends)
            if len(wrong) != 1:
                break
            [(start, stop)] = wrong
        first, last = (_index(k, self.analytic[name].shape) for k in (start, stop - 1))
        if first == last:
            return f", in one element alone: {first}"
        return f", between {first} and {last} alone" if 2 * (stop - start) <= self.analytic[name].size else ""

    def _unheard(self, name: str, v: Direction, unseen: float, size: float) -> Iterator[Row]:
        """A row for a tensor that the others drown, along a direction of its own, where its own rounding is known."""
        p = precision_of(self.subject.dtype)
        known = self.subject.size <= LARGE and unseen > p.agreement * size
        if known and math.isfinite(self.rounding.largest(name, self.analytic[name])):
            yield self._row(name, v)[0]
        elif unseen > 2.0**-6 * size:
            verdict, why = (UNRESOLVED, "too small beside the others") if size else (VACUOUS, "zero")
            yield Row(name, "dot product", verdict, why, self.analytic[name].shape)

    def _row(self, label: str, v: Direction, floor: float = 0.0) -> tuple[Row, float]:
        numeric, bar = self.probe.along(v)
        total, scale = _product(self.analytic, v)
        tolerance = max(2.0**10 * precision_of(self.subject.dtype).u * scale, bar, floor)
        verdict, note = self._verdict(v, total, numeric, tolerance, scale)
        size = sum(self.analytic[name].size for name in v.names)
        difference = abs(total - numeric)
        known = math.isfinite(tolerance) or not math.isfinite(total)
        ratio = difference / tolerance if tolerance and known else (0.0 if difference == 0 or not known else np.inf)
        worst = Element(label, (), total, numeric, float(ratio))
        caught = tolerance / scale if scale else np.inf
        return Row(label, "dot product", verdict, note, (size,), size, worst, caught), scale

    def _alone(self, v: Direction, tolerance: float, unheard: float) -> float:
        """The error of one element, relative to its tensor's largest gradient, that would be seen in any tensor."""
        largest = {name: float(np.abs(self.analytic[name]).max(initial=0.0)) for name in v.names}
        heard = [
            float(v.weights[name].min()) * v.units[name] * size
            for name, size in largest.items()
            if size and name not in self.idle
        ]
        return tolerance / (unheard * min(heard)) if heard else np.inf

    def _verdict(self, v: Direction, total: float, numeric: float, tolerance: float, scale: float) -> tuple[str, str]:
        error = abs(total - numeric)
        if error <= tolerance or (math.isinf(tolerance) and math.isfinite(total)):
            if scale == 0:
                return VACUOUS, "zero"
            return (PASS, "") if tolerance <= 2.0**-6 * scale else (UNRESOLVED, "too small to tell")
        if self.subject.size <= LARGE and self._is_rounding(v, error, numeric):
            return UNRESOLVED, ROUNDING
        if self.probe.has_kink(v, total):
            return KINK, "the slopes to both sides differ, and the pullback's is between"
        if self.subject.size <= LARGE and error <= tolerance + self._moves(v, numeric):
            return UNRESOLVED, ULPS
        return FAIL, "⟨dy, J v⟩ and ⟨Jᵀ dy, v⟩ differ"

    def _is_rounding(self, v: Direction, error: float, numeric: float) -> bool:
        with np.errstate(all="ignore"):  # of numbers that float32 does not hold
            if (
                self.subject.dtype == np.float64
            ):  # single precision's roundings may cancel along v, but not in their norm
                there = [_product({n: g[n] - self.analytic[n] for n in v.names}, v)[1] for g in self.again()]
            else:
                there = [abs(_product(g, v)[0] - numeric) for g in self.again()]
        if not there or not is_rounding(self.subject.dtype, error, max(there)):
            return False
        return not is_systematic(np.array([[_product(e, v)[0]] for e in self.errors()]))

    def _moves(self, v: Direction, numeric: float) -> float:
        """How far both sides may be off by rounding, from what ulps do to them."""
        moves = {name: self.rounding.of_gradient(name, self.analytic[name]) for name in v.names}
        return _product(moves, v)[1] + self.probe.rounding_along(v, numeric, self.rounding)


def _index(k: int, shape: tuple[int, ...]) -> str:
    return f"[{', '.join(str(int(i)) for i in np.unravel_index(k, shape))}]"


def _product(gradients: Mapping[str, Array], v: Direction) -> tuple[float, float]:
    """(⟨g, v⟩, ‖g ⊙ v‖)"""
    squares = total = 0.0
    for terms in _terms(gradients, v):
        total += float(terms.sum())
        squares += float(np.vdot(terms, terms))
    if not 1e-280 < squares < math.inf:
        return total, norm(np.array([norm(terms) for terms in _terms(gradients, v)]))
    return total, math.sqrt(squares)


def _terms(gradients: Mapping[str, Array], v: Direction) -> Iterator[Array]:
    for name in v.names:
        for part, along in blocks(gradients[name], v[name]):
            yield np.multiply(along, part, dtype=np.float64)


def blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Views of some rows of arrays of one shape, which fit the cache where the arrays do not."""
    arrays = tuple(np.atleast_1d(*arrays))
    rows = len(arrays[0])
    at_once = max(BLOCK * rows // arrays[0].size, 1)
    for start in range(0, rows, at_once):
        yield tuple(array[start : start + at_once] for array in arrays)
