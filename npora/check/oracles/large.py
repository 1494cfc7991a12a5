"""Derivatives along a direction of what is too large for tables of differences."""

from __future__ import annotations

import numpy as np

from npora.check.oracles.complex_safe import unsafe_operation
from npora.check.oracles.complex_step import complex_slope
from npora.check.oracles.dot_product import DIRECTIONS, Direction, blocks
from npora.check.oracles.richardson import noise_level, phi
from npora.check.oracles.rounding import Rounding
from npora.check.outputs import Outputs
from npora.check.subject import Bench, Subject

COMPLEX = 1 << 23  # with more elements than these complex numbers would take too much memory


class LargeProbe:
    """Central differences of the float64 forward, on arrays that are moved in place, for what is too large for more.

    The step is 2⁻¹⁰ over the norm of v. For a float32 backward one difference is far better than what it is compared
    with; in float64 a second one with half the step gives a Richardson value and its error bar. Where there is memory
    for complex numbers and they agree with that, and no operation loses imaginary parts, they are taken: they tell one
    wrong element from millions.
    """

    def __init__(self, subject: Subject, dy: Outputs) -> None:
        self.bench, self.dy = subject.at(np.float64), dy
        self.steps = 1 if subject.dtype == np.float32 else 2
        self.notes: list[str] = []
        self.agreed = False
        self.complex: Bench | None = None
        if self.steps == 2 and subject.size <= COMPLEX:
            if operation := unsafe_operation(subject):
                self.notes.append(f"the forward is not complex-safe ({operation}), so that differences were the oracle")
            else:
                self.complex = subject.at(np.complex128)
        self.place: tuple[Direction, float] | None = None  # where the arrays are: t along a direction

    @property
    def directions(self) -> int:
        return 1 if self.complex is None else DIRECTIONS

    def along(self, v: Direction) -> tuple[float, float]:
        v.draw_all()
        if self.complex is None:
            return self._differences(v)
        if self.agreed:
            return complex_slope(self.complex, self.dy, {name: v[name] for name in v.names}), 0.0
        differences, bar = self._differences(v)
        try:
            slope = complex_slope(self.complex, self.dy, {name: v[name] for name in v.names})
        except (TypeError, ValueError, np.exceptions.ComplexWarning) as error:
            return self._unsafe(f"{type(error).__name__}: {error}", differences, bar)
        if not abs(slope - differences) <= bar:
            return self._unsafe(f"along one direction {slope:.9g} against {differences:.9g}", differences, bar)
        self.agreed = True
        return slope, 0.0

    def _unsafe(self, detail: str, differences: float, bar: float) -> tuple[float, float]:
        self.notes.append(f"the forward is not complex-safe ({detail}), so that central differences were the oracle")
        self.complex = None
        return differences, bar

    def _differences(self, v: Direction) -> tuple[float, float]:
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

    def rounding_along(self, v: Direction, numeric: float, rounding: Rounding) -> float:
        return 0.0  # in its error bar

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
            for x, along in blocks(self.bench.arrays[name], v[name]):
                x += along * np.float64(t)
