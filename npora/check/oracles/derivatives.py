"""Derivatives of φ = ⟨dy, f⟩ that do not come from the pullback: by complex steps, or by differences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np

from npora.check.oracles.complex_safe import lost_slope, unsafe_operation
from npora.check.oracles.complex_step import STEP, Index, complex_slope, complex_step, slope
from npora.check.oracles.dot_product import DIRECTIONS, Direction
from npora.check.oracles.richardson import (
    STEPS,
    Along,
    consistent,
    coordinate,
    direction,
    extrapolate,
    moved,
    noise_of,
    norm,
    phi,
    reach_of,
    unit_of,
)
from npora.check.oracles.rounding import Rounding
from npora.check.oracles.staircase import height_of_steps
from npora.check.outputs import Outputs
from npora.check.subject import Subject
from npora.check.verdict.comparison import precision_of
from npora.check.verdict.kinks import REACH, kink
from npora.nn.module import Array

SHARP = 1e-7  # a bar no wider than this share of a slope can tell a right one from a wrong one
LOST = 2.0**-36  # of a slope: more than rounding makes of what cancels, and less than any tolerance is for
BESIDE = 2.0**-10  # how far from a kink the point beside it is
Slopes = tuple[float, float]


class Oracles:
    """What is known of a subject's forward at one dy.

    `complex` is a bench for complex steps, or None where differences are wanted, or where the forward is not
    complex-safe, as `notes` then say. `noise` is that of φ, `kinked` whether it has a kink along some direction.
    """

    directions = DIRECTIONS

    def __init__(self, subject: Subject, dy: Outputs, rng: np.random.Generator, by_differences: bool) -> None:
        self.subject, self.dy = subject, dy
        self.notes: list[str] = []
        self.real = subject.at(np.float64)
        self.all_along = {name: unit_of(x) * rng.standard_normal(x.shape) for name, x in subject.point.items()}
        self.noise = noise_of(self.real, dy, self.all_along)
        self.here = phi(self.real, dy)
        self._coordinates: dict[tuple[str, Index], Along] = {}
        self._along_all = direction(self.real, dy, self.all_along, self.here)
        self.kinked = self._kink(self._along_all) is not None
        self.complex = None if by_differences else subject.at(np.complex128)
        if by_differences or not self._is_safe():
            self._without_complex_steps()

    def _without_complex_steps(self) -> None:
        self.complex = None
        self.noise = max(self.noise, self._coarse_noise())

    def _coarse_noise(self) -> float:
        """What single precision inside the forward makes of φ; nothing where φ is no staircase, but bends."""
        stepped: dict[str, Array] = {}
        highest = self._single_noise()
        for name, x in self.real.arrays.items():
            along, unit = self.all_along[name], unit_of(x)
            v = {name: (along + np.copysign(unit, along)) * np.maximum(1, np.abs(x) / unit)}
            if height := height_of_steps(partial(moved, self.real, self.dy, v), self.noise):
                stepped |= v
                highest = max(highest, height)
        return noise_of(self.real, self.dy, stepped, highest) if stepped else highest

    def _single_noise(self) -> float:
        """The rounding of outputs that beside the point are numbers of single precision: φ may stand still there."""
        with self._moved({name: BESIDE * v for name, v in self.all_along.items()}), np.errstate(over="ignore"):
            try:
                outputs = self.real.outputs()
            except (ValueError, ArithmeticError, LookupError):  # out of the function's domain
                return 0.0
        single = all((y.astype(np.float32) == y).all() for y in outputs)
        return 2.0**-24 * max(norm(w * y) for w, y in zip(self.dy, outputs, strict=True)) if single else 0.0

    def _is_safe(self) -> bool:
        """Does the complex step agree with differences along a direction, to their error bar?

        Where an operation of the forward loses imaginary parts it is no oracle, whatever differences say, unless all
        that it feeds is of no effect on the slope along any input or parameter.
        """
        assert self.complex is not None
        try:
            slope = complex_slope(self.complex, self.dy, self.all_along)
        except (TypeError, ValueError, np.exceptions.ComplexWarning) as error:
            return self._unsafe(unsafe_operation(self.subject) or f"{type(error).__name__}: {error}")
        if operation := unsafe_operation(self.subject):
            lost = max(lost_slope(self.subject, self.dy, {name: v}) for name, v in self.all_along.items())
            if lost > LOST:
                return self._unsafe(operation)
        if doubt := self._contradiction(slope):
            return self._unsafe(operation or doubt)
        return True

    def _contradiction(self, slope: float) -> str:
        """How differences along all inputs and parameters contradict the complex step; "" where they do not. At a kink
        neither is a derivative, and a point beside it is asked."""
        assert self.complex is not None
        v = self.all_along
        if doubt := self._differ(slope, self._along_all):
            if not self.kinked:
                return doubt
            with self._moved({name: BESIDE * v[name] for name in v}):
                along = direction(self.real, self.dy, v)
                doubt = self._differ(complex_slope(self.complex, self.dy, v), along)
                if doubt and self._kink(along) is None:
                    return doubt
        return ""

    def _differ(self, slope: float, along: Along) -> str:
        differences, bar = extrapolate(along, self.noise)
        if not abs(slope - differences) <= bar <= SHARP * abs(slope):
            differences, bar = consistent(along, self.noise)
        if abs(slope - differences) > bar:
            return f"along one direction {slope:.9g} against {differences:.9g} ± {bar:.1g}"
        return ""

    @contextmanager
    def _moved(self, by: dict[str, Array]) -> Iterator[None]:
        """Both benches elsewhere, for a while."""
        benches = [bench for bench in (self.real, self.complex) if bench is not None]
        before = [{name: bench.arrays[name].copy() for name in by} for bench in benches]
        for bench in benches:
            for name, step in by.items():
                bench.arrays[name] += step
        try:
            yield
        finally:
            for bench, old in zip(benches, before, strict=True):
                for name, value in old.items():
                    bench.arrays[name][...] = value

    def _unsafe(self, detail: str) -> bool:
        self.notes.append(
            f"the forward is not complex-safe ({detail}), so that central differences were the oracle; that says "
            f"nothing against the gradient"
        )
        return False

    def derivatives(self, name: str, indices: list[Index], a: Array) -> tuple[Array, Array]:
        """(∂φ/∂x_i, error bars) at these coordinates. a : what the pullback gives there, looked at again where it
        differs."""
        if self.complex is not None:
            h = STEP * unit_of(self.subject.point[name])
            numeric, bars = complex_step(self.complex, self.dy, name, indices, h), np.zeros(len(indices))
            if not self._doubt(name, indices, a, numeric, bars):
                return numeric, bars
            self._without_complex_steps()
        numeric, bars = map(np.array, zip(*(self._table(name, index) for index in indices), strict=True))
        self._ask_finer_steps(name, indices, a, numeric, bars)
        for k in np.flatnonzero(np.isinf(bars)):
            if slopes := self.kink_at(name, indices[k]):
                numeric[k], bars[k] = self._mean(slopes, self.reach)
        return numeric, bars

    def _along(self, name: str, index: Index) -> Along:
        """φ along one coordinate, from the point."""
        if (name, index) not in self._coordinates:
            self._coordinates[name, index] = coordinate(self.real, self.dy, name, index, self.here)
        return self._coordinates[name, index]

    def _table(self, name: str, index: Index, finer: float = 1.0) -> tuple[float, float]:
        """(∂φ/∂x_i, its error bar), in 15 forwards at most. The largest step is max(1, |x_i|)/16, times `finer`; a
        tensor whose elements are all tiny has their size for its 1."""
        reach = reach_of(self.real.arrays[name], index)
        return extrapolate(self._along(name, index), self.noise, finer * reach)

    def _tables(self, name: str, index: Index, noise: float) -> tuple[float, float]:
        """The same by steps that agree with finer ones."""
        return consistent(self._along(name, index), noise, reach_of(self.real.arrays[name], index))

    def _mean(self, slopes: Slopes, reach: float) -> tuple[float, float]:
        """What differences say where a kink is shown, and steps never are finer than that: (slope, error bar)"""
        return sum(slopes) / 2, self._slack(slopes, reach)

    def _doubt(self, name: str, indices: list[Index], a: Array, numeric: Array, bars: Array) -> bool:
        """Where the pullback differs from complex steps, are the steps to blame?

        They are where a smaller h, which changes nothing where φ is analytic, changes them (x^1.5 at 0 has the slope
        h^½): there differences take their place. And all of them are where the worst is outside the error bar of
        differences, and there is no kink: then the answer is True.
        """
        assert self.complex is not None
        p, h = precision_of(self.subject.dtype), STEP * unit_of(self.subject.point[name])
        close = p.slack * p.u * float(np.abs(numeric).max())
        wrong = np.flatnonzero(~(np.abs(a - numeric) <= close))
        if not len(wrong):
            return False
        worst = int(wrong[np.abs(a - numeric)[wrong].argmax()])
        differences, bar = self._table(name, indices[worst])
        if not abs(differences - numeric[worst]) <= bar:
            differences, bar = self._tables(name, indices[worst], self.noise)
        if abs(differences - numeric[worst]) > bar and self.kink_at(name, indices[worst]) is None:
            detail = f"at {name}{list(indices[worst])} {numeric[worst]:.9g} against {differences:.9g} ± {bar:.1g}"
            self._unsafe(unsafe_operation(self.subject) or detail)
            return True
        if self._are_unmoved(name, [indices[k] for k in wrong], numeric[wrong], h / 2**20, close / 2**3):
            return False
        for k in wrong:
            again = complex_step(self.complex, self.dy, name, [indices[k]], h / 2**20)[0]
            if not abs(again - numeric[k]) <= close / 2**10:
                numeric[k], bars[k] = self._table(name, indices[k])
        return False

    def _are_unmoved(self, name: str, indices: list[Index], numeric: Array, h: float, close: float) -> bool:
        """Are the complex steps at these coordinates the same for another h, as one along them all says?"""
        assert self.complex is not None
        weights = np.cos(np.arange(len(indices)))
        x = self.complex.arrays[name]
        before = x.copy()
        for index, weight in zip(indices, weights, strict=True):
            x[index] += 1j * h * weight
        along = slope(self.complex, self.dy, h)
        x[...] = before
        return bool(abs(along - float(weights @ numeric)) <= close)

    def _ask_finer_steps(self, name: str, indices: list[Index], a: Array, numeric: Array, bars: Array) -> None:
        """Where the pullback is outside the bar, or the bar is wide without noise, take finer steps; believe them where
        they are better known, or contradict the first.

        A bar is honest only if the steps are finer than what the function does: a kink or a saturated norm beside the
        point can make wide steps agree with each other on a wrong slope, or look like noise.
        """
        agreement = precision_of(self.subject.dtype).agreement
        for finer in (2.0**-8, 2.0**-14):
            wide = max(agreement * float(np.nan_to_num(np.abs(numeric)).max()), 64 * self.noise / STEPS[-1])
            for k in np.flatnonzero((bars > wide) | ~(np.abs(a - numeric) <= bars)):
                again, bar = self._table(name, indices[k], finer)
                if bars[k] > max(wide, bar) or abs(again - numeric[k]) > bar + bars[k]:
                    numeric[k], bars[k] = again, bar
        off, wrong = np.abs(a - numeric), False
        for k in np.argsort(-np.nan_to_num(off)):
            if not (math.isinf(bars[k]) or (off[k] > bars[k] and not wrong)):
                continue
            slope, error = self._tables(name, indices[k], self.noise)
            if abs(slope - numeric[k]) <= error + bars[k] and not abs(slope - a[k]) <= error:
                wrong = True  # and the others need no closer look, but those of which nothing is known
                if not error < bars[k]:
                    continue
            numeric[k], bars[k] = slope, error

    def rounding_at(self, name: str, index: Index, numeric: float, rounding: Rounding) -> float:
        """How far the derivative at one coordinate may be off by the rounding of the forward."""
        if self.complex is not None:
            return rounding.spread(rounding.slopes_at(name, index), numeric)
        noise = rounding.spread(rounding.values, self.here)
        if slopes := self.kink_at(name, index):
            slope, bar = self._mean(slopes, self.reach)
        else:
            slope, bar = self._tables(name, index, max(noise, self.noise))
        return bar + abs(slope - numeric) if math.isfinite(bar) else math.inf

    def along(self, v: Direction) -> tuple[float, float]:
        """(⟨dy, J v⟩, its error bar)"""
        arrays = {name: v[name].astype(np.float64) for name in v.names}
        if self.complex is not None:
            return complex_slope(self.complex, self.dy, arrays), 0.0
        along = direction(self.real, self.dy, arrays, self.here)
        slope, bar = extrapolate(along, self.noise)
        if math.isfinite(bar):
            return slope, bar
        if slopes := self._kink(along):
            return self._mean(slopes, REACH)
        return consistent(along, self.noise)

    def rounding_along(self, v: Direction, numeric: float, rounding: Rounding) -> float:
        """The same along a direction."""
        arrays = {name: v[name].astype(np.float64) for name in v.names}
        if self.complex is not None:
            return rounding.spread(rounding.slopes(arrays), numeric)
        noise, along = rounding.spread(rounding.values, self.here), direction(self.real, self.dy, arrays, self.here)
        if slopes := self._kink(along):
            slope, bar = self._mean(slopes, REACH)
        else:
            slope, bar = consistent(along, max(noise, self.noise))
        return bar + abs(slope - numeric) if math.isfinite(bar) else math.inf

    def has_kink(self, v: Direction, slope: float) -> bool:
        slopes = self.kink_along({name: v[name].astype(np.float64) for name in v.names})
        return slopes is not None and self.between(slopes, slope, REACH)

    def kink_along(self, v: dict[str, Array]) -> Slopes | None:
        """The two slopes along v, where they differ."""
        return self._kink(direction(self.real, self.dy, v, self.here))

    def _kink(self, along: Along) -> Slopes | None:
        return kink(along, self.noise)

    @property
    def reach(self) -> float:
        """How near a kink must be to matter."""
        return STEPS[-1] if self.complex is None else REACH

    def kink_at(self, name: str, index: Index) -> Slopes | None:
        """The two slopes along one coordinate, where they differ."""
        return kink(self._along(name, index), self.noise, self.reach, reach_of(self.real.arrays[name], index))

    def between(self, slopes: Slopes, a: float, reach: float | None = None) -> bool:
        """Is a between the slopes to the left and right, as well as they are known?"""
        slack = self._slack(slopes, reach or self.reach)
        return min(slopes) - slack <= a <= max(slopes) + slack

    def _slack(self, slopes: Slopes, reach: float) -> float:
        return 64 * self.noise / reach + 1e-5 * (abs(slopes[0]) + abs(slopes[1]))
