"""Every element of every input and parameter against an oracle, and the verdict on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from npora.check.complex_safe import unsafe_operation
from npora.check.complex_step import Index, complex_slope, complex_step
from npora.check.context import context_of
from npora.check.diagnosis import Context, diagnose
from npora.check.dot_product import LARGE
from npora.check.identities import idle_parameters
from npora.check.kinks import REACH, kink, one_sided
from npora.check.report import Element, Row
from npora.check.richardson import STEPS, central, central_slope, moved, noise_of, phi
from npora.check.subject import Bench, Outputs, Subject
from npora.check.verdict import FAIL, KINK, PASS, UNRESOLVED, VACUOUS, Comparison, compare, is_rounding, other_precision
from npora.nn import Parameter
from npora.nn.module import Array
from npora.optim import Adam


class Examination:
    """One subject at one dy, and what its oracles need; each is made when first asked for."""

    def __init__(self, subject: Subject, rng: np.random.Generator, max_elements: int) -> None:
        self.subject, self.rng, self.max_elements = subject, rng, max_elements
        self.notes: list[str] = []
        self._start()

    def _start(self) -> None:
        subject = self.subject
        self.bench = subject.at(subject.dtype, shared=True)
        outputs, backward = self.bench.forward()
        for k, y in enumerate(outputs):
            if not np.isfinite(y).all():
                at = tuple(int(i) for i in np.argwhere(~np.isfinite(np.atleast_1d(y)))[0])
                raise ValueError(
                    f"the forward of {subject} gave {np.atleast_1d(y)[at]} in output {k} at {at}: a gradient can be "
                    f"checked only where the function is finite"
                )
        self.dy = _upstream(self.rng, outputs, subject.dtype)
        self.other = _upstream(self.rng, outputs, subject.dtype)
        self.exact_dy = tuple(w.astype(np.float64) for w in self.dy)
        gradients = self.bench.gradients(backward, self.dy)
        # A wrong backward may hand out arrays that change later; a large one's cost too much to copy.
        self.analytic = {name: np.array(g, copy=subject.size <= LARGE or None) for name, g in gradients.items()}
        for parameter in self.bench.parameters.values():
            parameter.grad = None
        self._single: dict[str, Array] | None = None
        self._complex: Bench | None = None
        self._idle = idle_parameters(self.bench)

    def take(self, steps: int) -> None:
        """Adam on φ, so that the check is made where training would be."""
        held = {name: Parameter(self.subject.point[name].copy()) for name in self.subject.trainable}
        if held:
            optimizer = Adam(list(held.values()), lr=1e-2)
            for _ in range(steps):
                for name, parameter in held.items():
                    parameter.grad = self.analytic[name]
                optimizer.step()
                for name, parameter in held.items():
                    self.subject.point[name] = parameter.data.copy()
                self._start()

    def _prepare(self, by_differences: bool) -> None:
        """The noise of φ, kinks nearby, and a complex bench, if the complex step may be trusted."""
        self.real = self.subject.at(np.float64)
        self.all_along = {name: self.rng.standard_normal(x.shape) for name, x in self.subject.point.items()}
        self.noise = noise_of(self.real, self.exact_dy, self.all_along)
        self.kinked = kink(lambda t: moved(self.real, self.exact_dy, self.all_along, t), self.noise) is not None
        if not by_differences:
            bench = self.subject.at(np.complex128)
            self._complex = bench if self._complex_is_safe(bench) else None

    def _complex_is_safe(self, bench: Bench) -> bool:
        """Does the complex step agree with differences along one direction, to their error bar?"""
        try:
            slope = complex_slope(bench, self.exact_dy, self.all_along)
        except (TypeError, ValueError, np.exceptions.ComplexWarning) as error:
            said = f"{type(error).__name__}: {error}"
            self.notes.append(self._about_the_forward(said))
            return False
        differences, bar = central_slope(self.real, self.exact_dy, self.all_along, self.noise)
        if abs(slope - differences) <= bar:
            return True
        # A kink within the steps of the differences spoils them, not the complex step: look closer.
        left, right = one_sided(lambda t: moved(self.real, self.exact_dy, self.all_along, t), REACH)
        slack = 64 * self.noise / REACH + 1e-5 * (abs(left) + abs(right))
        if min(left, right) - slack <= slope <= max(left, right) + slack:
            return True
        self.notes.append(
            self._about_the_forward(f"along one direction {slope:.9g} against {differences:.9g} ± {bar:.1g}")
        )
        return False

    def _about_the_forward(self, detail: str) -> str:
        operation = unsafe_operation(self.subject)
        return (
            f"the forward is not complex-safe ({operation or detail}), so that central differences were the oracle; "
            f"that says nothing against the gradient"
        )

    def rows(self, by_differences: bool) -> Iterator[tuple[Row, list[Element], Array]]:
        """A row for each input and parameter, its worst elements, and |difference| over tolerance of every element."""
        self._prepare(by_differences)
        measured = {name: self._measured(name) for name in self.subject.point}
        everywhere = max(float(np.abs(numeric).max()) for _, numeric, _ in measured.values())
        for name, (indices, numeric, bars) in measured.items():
            yield self._judged(name, indices, numeric, bars, everywhere)

    def _measured(self, name: str) -> tuple[list[Index], Array, Array]:
        """(coordinates, derivatives there, error bars)"""
        indices = self._chosen(self.analytic[name])
        if self._complex is not None:
            numeric = complex_step(self._complex, self.exact_dy, name, indices)
            return indices, numeric, np.zeros(len(indices))
        numeric, bars = central(self.real, self.exact_dy, name, indices, self.noise)
        self._ask_finer_steps(name, indices, numeric, bars)
        return indices, numeric, bars

    def _judged(
        self, name: str, indices: list[Index], numeric: Array, bars: Array, everywhere: float
    ) -> tuple[Row, list[Element], Array]:
        x, a = self.subject.point[name], self.analytic[name]
        whole = len(indices) == x.size
        shape = x.shape if whole else (len(indices),)
        picked = a if whole else np.array([a[index] for index in indices])
        numeric = numeric.reshape(shape)
        found = compare(picked, numeric, bars.reshape(shape), everywhere, self.subject.dtype)
        verdict, note = self._verdict(name, found, indices)
        if verdict == FAIL and not note:
            known = float(np.max(found.tolerance)) / max(float(np.abs(numeric).max()), np.finfo(float).tiny)
            note = diagnose(picked, numeric, self._context(name), max(16 * known, 1e-10))
        ratio = found.ratio
        elements = [
            Element(name, indices[k], float(picked.flat[k]), float(numeric.flat[k]), float(ratio.flat[k]))
            for k in map(int, np.argsort(-ratio, axis=None)[:10])
        ]
        method = "central" if self._complex is None else "complex"
        if verdict == PASS and name in self._idle and found.zero:
            method = "identity"
        return Row(name, method, verdict, note, x.shape, len(indices), elements[0], found.caught), elements, ratio

    def _ask_finer_steps(self, name: str, indices: list[Index], numeric: Array, bars: Array) -> None:
        """Where the pullback is outside the bar, take finer steps; where those contradict the first, believe them.

        A bar is honest only if the steps are finer than what the function does: a kink or a saturated norm beside the
        point can make wide steps agree with each other on a wrong slope.
        """
        a = np.array([self.analytic[name][index] for index in indices])
        for finer in (2.0**-8, 2.0**-14):
            for k in np.flatnonzero(~(np.abs(a - numeric) <= bars)):
                again, bar = central(self.real, self.exact_dy, name, [indices[k]], self.noise, finer)
                if abs(again[0] - numeric[k]) > bar[0] + bars[k]:
                    numeric[k], bars[k] = again[0], bar[0]

    def _context(self, name: str) -> Context:
        bench = self.bench
        return context_of(bench.layer, bench.arrays, self.subject.places, bench.keywords, self.dy, self.analytic, name)

    def _verdict(self, name: str, found: Comparison, indices: list[Index]) -> tuple[str, str]:
        verdict = found.verdict
        if verdict == VACUOUS and name in self._idle:
            return PASS, "zero, as its layer declares"
        if verdict == FAIL and self._is_rounding(name, found, indices):
            return UNRESOLVED, "ill-conditioned: the difference shrinks with the unit roundoff, as rounding does"
        if verdict == FAIL or self.kinked:
            kinks = self._kinks(name, found, indices)
            if kinks is not None:
                return kinks
        if verdict == UNRESOLVED and name in self._idle and self._only_idle(name, found, indices):
            return PASS, "zero in part, as its layer declares"
        if verdict == UNRESOLVED:
            return verdict, f"{int(found.unresolved.sum())} of {found.unresolved.size} elements are too small to tell"
        return verdict, ""

    def _only_idle(self, name: str, found: Comparison, indices: list[Index]) -> bool:
        idle = range(len(self.subject.point[name]))[self._idle[name]]
        return all(indices[int(k)][0] in idle for k in np.flatnonzero(found.unresolved))

    def _is_rounding(self, name: str, found: Comparison, indices: list[Index]) -> bool:
        """Run again in the other precision, where rounding is another."""
        if self._single is None:
            other = other_precision(self.subject.dtype)
            try:
                bench = self.subject.at(other)
                _, backward = bench.forward()
                dy = tuple(w.astype(other) for w in self.dy)
                self._single = {key: np.array(g) for key, g in bench.gradients(backward, dy).items()}
            except (TypeError, ValueError, ArithmeticError):
                self._single = {}
        if name not in self._single:
            return False
        again = np.array([self._single[name][index] for index in indices]).reshape(found.numeric.shape)
        here = float(np.abs(found.analytic - found.numeric)[found.failed].max())
        there = float(np.abs(again - found.numeric)[found.failed].max())
        return is_rounding(self.subject.dtype, here, there)

    def _kinks(self, name: str, found: Comparison, indices: list[Index]) -> tuple[str, str] | None:
        """KINK, where an element that failed, or any near a kink, has two slopes with the analytic one between."""
        reach = STEPS[-1] if self._complex is None else REACH
        x, failed = self.real.arrays[name], found.failed.reshape(-1)
        v = {name: self.all_along[name]}
        if not failed.any() and kink(lambda t: moved(self.real, self.exact_dy, v, t), self.noise) is None:
            return None
        notes, outside = [], False
        for position, index in enumerate(indices):
            if failed.any() and not failed[position]:
                continue
            value = x[index]

            def along(t: float, index: Index = index, value: float = value) -> float:
                x[index] = value + t
                return phi(self.real, self.exact_dy)

            slopes = kink(along, self.noise, reach * max(1.0, abs(float(value))))
            x[index] = value
            a = float(found.analytic.reshape(-1)[position])
            if slopes is None:
                outside |= bool(failed[position])
                continue
            slack = 64 * self.noise / reach + 1e-5 * (abs(slopes[0]) + abs(slopes[1]))
            if min(slopes) - slack <= a <= max(slopes) + slack:
                left, right = slopes
                notes.append(f"at {list(index)} the slopes are {left:.6g} and {right:.6g}, the analytic one {a:.6g}")
            else:
                outside |= True
        if outside or not notes:
            return None
        return KINK, "; ".join(notes[:3]) + (f"; and {len(notes) - 3} more" if len(notes) > 3 else "")

    def _chosen(self, a: Array) -> list[Index]:
        if a.size <= self.max_elements:
            return list(np.ndindex(a.shape))
        extremes = [int(np.abs(a).argmax()), int(np.abs(a).argmin()), 0, a.size - 1]
        drawn = self.rng.choice(a.size, self.max_elements, replace=False)
        flat = list(dict.fromkeys([*extremes, *map(int, drawn)]))[: self.max_elements]
        return [tuple(int(i) for i in np.unravel_index(k, a.shape)) for k in flat]


def _upstream(rng: np.random.Generator, outputs: Outputs, dtype: np.dtype[Any]) -> Outputs:
    drawn = tuple(np.asarray(rng.standard_normal(y.shape)).astype(dtype) for y in outputs)
    for w in drawn:
        w.flags.writeable = False
    return drawn
