"""Every element of every input and parameter against an oracle, and the verdict on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from npora.check.oracles.around import around, by_pullback, is_systematic
from npora.check.oracles.complex_step import Index
from npora.check.oracles.derivatives import Oracles
from npora.check.oracles.dot_product import LARGE
from npora.check.oracles.identities import idle_parameters
from npora.check.oracles.rounding import FAR, Rounding
from npora.check.oracles.signs import contradiction
from npora.check.outputs import Outputs
from npora.check.subject import Subject
from npora.check.verdict.comparison import (
    FAIL,
    HALVES,
    KINK,
    PASS,
    ROUNDING,
    ULPS,
    UNRESOLVED,
    VACUOUS,
    Comparison,
    compare,
    is_rounding,
    other_precision,
)
from npora.check.verdict.context import context_of
from npora.check.verdict.diagnosis import Context, diagnose
from npora.check.verdict.report import Element, Row
from npora.nn import Parameter
from npora.nn.module import Array
from npora.optim import Adam


class Examination:
    """One subject at one dy, and what its oracles need; each is made when first asked for."""

    def __init__(
        self,
        subject: Subject,
        rng: np.random.Generator,
        max_elements: int,
        by_differences: bool = False,
        named: Callable[..., Mapping[str, Any]] | None = None,
    ) -> None:
        self.subject, self.rng, self.max_elements, self.by_differences = subject, rng, max_elements, by_differences
        self.named = named
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
        if subject.reference is not None:
            subject.check_reference([y.shape for y in outputs])
        self.dy = _upstream(self.rng, outputs, subject.dtype)
        self.other = _upstream(self.rng, outputs, subject.dtype)
        self.exact_dy = tuple(w.astype(np.float64) for w in self.dy)
        gradients = self.bench.gradients(backward, self.dy)
        # A wrong backward may hand out arrays that change later; a large one's cost too much to copy.
        copied = subject.size <= LARGE or None
        self.analytic = {name: np.array(g, copy=copied) for name, g in gradients.items()}
        for parameter in self.bench.parameters.values():
            parameter.grad = None
        self._again: list[dict[str, Array]] | None = None
        self._oracles: Oracles | None = None
        self.rounding = Rounding(subject, self.exact_dy)
        self.idle = idle_parameters(self.bench)

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
                self.subject.held.clear()
                self._start()

    @property
    def oracles(self) -> Oracles:
        if self._oracles is None:
            self._oracles = Oracles(self.subject.exact, self.exact_dy, self.rng, self.by_differences)
        return self._oracles

    def rows(self) -> Iterator[tuple[Row, list[Element], Array]]:
        """A row for each input and parameter, its worst elements, and |difference| over tolerance of every element."""
        chosen = self.chosen()
        exact = self.oracles.complex
        measured = self._measured(chosen)
        if self.oracles.complex is not exact:  # one of them showed that complex steps are wrong: of all of them
            measured = self._measured(chosen)
        everywhere = max(float(np.nan_to_num(np.abs(numeric)).max()) for _, numeric, _ in measured.values())
        self.right = {name: _placed(self.analytic[name].shape, *found) for name, found in measured.items()}
        for name, (indices, numeric, bars) in measured.items():
            yield self._judged(name, indices, numeric, bars, everywhere)

    def _measured(self, chosen: dict[str, list[Index]]) -> dict[str, tuple[list[Index], Array, Array]]:
        return {
            name: (indices, *self.oracles.derivatives(name, indices, _picked(self.analytic[name], indices)))
            for name, indices in chosen.items()
        }

    def _judged(
        self, name: str, indices: list[Index], numeric: Array, bars: Array, everywhere: float
    ) -> tuple[Row, list[Element], Array]:
        x, a = self.subject.point[name], self.analytic[name]
        whole = len(indices) == x.size
        shape = x.shape if whole else (len(indices),)
        picked = a if whole else _picked(a, indices)
        numeric = numeric.reshape(shape)
        bars = bars.reshape(shape)
        found = compare(picked, numeric, bars, everywhere, self.subject.dtype)
        if found.hides and name not in self.idle:
            own = self.rounding.largest(name, a)
            found = compare(picked, numeric, bars, everywhere, self.subject.dtype, own)
        verdict, note = self._verdict(name, found, indices)
        if verdict == FAIL and not note:
            known = float(np.max(found.tolerance)) / max(float(np.abs(numeric).max()), np.finfo(float).tiny)
            note = diagnose(a, self.right[name], self._context(name), max(16 * known, 1e-10))
        ratio = found.ratio
        elements = [
            Element(name, indices[k], float(picked.flat[k]), float(numeric.flat[k]), float(ratio.flat[k]))
            for k in map(int, np.argsort(-ratio, axis=None)[:10])
        ]
        method = "central" if self.oracles.complex is None else "complex"
        if verdict == PASS and name in self.idle and found.zero:
            method = "identity"
        row = Row(name, method, verdict, note, x.shape, len(indices), elements[0], found.caught)
        return row, elements, ratio if whole else _placed(x.shape, indices, ratio, np.zeros(len(indices)))

    def _context(self, name: str) -> Context:
        bench = self.bench
        keywords = {**self.subject.constants, **bench.keywords}
        context = context_of(bench.layer, bench.arrays, self.subject.places, keywords, self.dy, self.right, name)
        outputs = bench.outputs()
        arrays = {**context.arrays, "output": outputs[0]} if len(outputs) == 1 else dict(context.arrays)
        returned = {key: g for key, g in self.analytic.items() if key != name}
        factors, told = dict[str, float](), dict[str, Array]()
        for key, known in (self.named(*self.dy, *bench.inputs, **bench.keywords) if self.named else {}).items():
            words, _, of = key.removesuffix(")").rpartition(" (d")
            words, of = (words, of) if of in bench.arrays else (key, name)
            if of == name and np.ndim(known):
                told[words] = known
            elif of == name:
                factors[words] = float(known)
        factors |= context.factors
        if len(outputs) == 1 and outputs[0].size == 1:
            factors["the output"] = float(outputs[0].flat[0])
        arrays |= told
        return replace(context, factors=factors, arrays=arrays, returned=returned, told=told)

    def _verdict(self, name: str, found: Comparison, indices: list[Index]) -> tuple[str, str]:
        verdict = found.verdict
        if verdict == VACUOUS and name in self.idle:
            return PASS, "zero, as its layer declares"
        if verdict == FAIL and self._is_rounding(name, found, indices):
            return UNRESOLVED, ROUNDING
        if verdict == FAIL or self.oracles.kinked:
            kinks = self._kinks(name, found, indices)
            if kinks is not None:
                return kinks
        if verdict == FAIL and self._is_within_rounding(name, found, indices):
            return UNRESOLVED, ULPS
        if verdict == UNRESOLVED and name in self.idle and self._only_idle(name, found, indices):
            return PASS, "zero in part, as its layer declares"
        if verdict == UNRESOLVED and self.oracles.complex is None:
            doubt = contradiction(self.oracles, name, self.analytic[name])
            if doubt:
                return FAIL, doubt
        if verdict == UNRESOLVED:
            places = np.flatnonzero(found.unresolved)
            count = f"{len(places)} of {found.unresolved.size} elements"
            return verdict, f"{count}, first {list(indices[places[0]])}, are too small or change too fast to tell"
        return verdict, ""

    def _only_idle(self, name: str, found: Comparison, indices: list[Index]) -> bool:
        idle = range(len(self.subject.point[name]))[self.idle[name]]
        return all(indices[int(k)][0] in idle for k in np.flatnonzero(found.unresolved))

    def again(self) -> list[dict[str, Array]]:
        """The pullback in the other precision, where rounding is another; empty where it does not run there.

        In single precision at three points about 2⁻²⁴ of each element around this one: at any one of them there may be
        nothing to round, by chance.
        """
        if self._again is None:
            other = other_precision(self.subject.dtype)
            try:
                with np.errstate(all="ignore"):  # of numbers that float32 does not hold
                    self._again = [self._pullback(other, around) for around in range(3 if other == np.float32 else 1)]
            except Exception:  # whatever a kernel of one precision says to another
                self._again = []
        return self._again

    @cached_property
    def errors(self) -> list[dict[str, Array]]:
        """Of single precision: how far the pullback is off the one in float64, at a few points."""
        if self.subject.dtype != np.float32:
            return []
        found = around(self.subject, self.dy, 8, by_pullback, np.random.default_rng(3))
        return [{name: came[name] - right[name] for name in came} for came, right in found]

    def _pullback(self, dtype: np.dtype[Any], around: int) -> dict[str, Array]:
        bench = self.subject.at(dtype)
        if dtype == np.float32:
            rng = np.random.default_rng(around)
            for x in bench.arrays.values():
                x *= (1 + 2.0**-23 * rng.uniform(-1, 1, x.shape)).astype(dtype)
        _, backward = bench.forward()
        dy = tuple(w.astype(dtype) for w in self.dy)
        return {key: np.array(g, np.float64) for key, g in bench.gradients(backward, dy).items()}

    def _is_rounding(self, name: str, found: Comparison, indices: list[Index]) -> bool:
        numeric, failed = found.numeric, found.failed
        again = [_picked(gradients[name], indices).reshape(numeric.shape) for gradients in self.again()]
        there = [float(np.abs(a - numeric)[failed].max()) for a in again]
        here = float(np.abs(found.analytic - numeric)[failed].max())
        if not there or not is_rounding(self.subject.dtype, here, max(there)):
            return False
        # A kernel may be wrong in single precision alone.
        return not is_systematic(np.array([_picked(e[name], indices)[failed.reshape(-1)] for e in self.errors]))

    def _is_within_rounding(self, name: str, found: Comparison, indices: list[Index]) -> bool:
        """Is every element that failed explained by how far an ulp here and there moves the pullback and the oracle?"""
        if self._is_far_above_rounding(name, found, indices):
            return False
        moves = self.rounding.of_gradient(name, self.analytic[name])
        allowed = found.tolerance.reshape(-1) + _picked(moves, indices)
        numeric, failed = found.numeric.reshape(-1), found.failed.reshape(-1)
        difference = np.abs(found.analytic.reshape(-1) - numeric)
        beyond = difference - allowed
        for k in map(int, np.argsort(-np.nan_to_num(beyond, nan=np.inf))):
            if failed[k] and not beyond[k] <= 0:
                there = self.oracles.rounding_at(name, indices[k], float(numeric[k]), self.rounding)
                if not difference[k] <= allowed[k] + there:
                    return False
        return True

    def _is_far_above_rounding(self, name: str, found: Comparison, indices: list[Index]) -> bool:
        """As one run of each side shows, where complex steps are the oracle: most errors need no more."""
        worst = int(np.nan_to_num(found.ratio, posinf=np.inf).argmax())
        difference = abs(float(found.analytic.flat[worst]) - float(found.numeric.flat[worst]))
        if self.oracles.complex is None or not self.rounding.far_below(difference, name, self.analytic[name]):
            return False
        [slope] = self.rounding.slopes_at(name, indices[worst], range(1)) or [np.nan]
        return 0 < abs(slope - float(found.numeric.flat[worst])) * FAR < difference  # 0 of one run may be chance

    def _kinks(self, name: str, found: Comparison, indices: list[Index]) -> tuple[str, str] | None:
        """KINK, where an element that failed, or any near a kink, has two slopes with the analytic one between."""
        oracles, failed = self.oracles, found.failed.reshape(-1)
        if not failed.any() and oracles.kink_along({name: oracles.all_along[name]}) is None:
            return None
        notes = []
        for position, index in enumerate(indices):
            if failed.any() and not failed[position]:
                continue
            slopes = oracles.kink_at(name, index)
            a = float(found.analytic.reshape(-1)[position])
            if slopes is None and not failed[position]:
                continue
            if slopes is None or not oracles.between(slopes, a):
                return None
            left, right = slopes
            notes.append(f"at {list(index)} the slopes are {left:.6g} and {right:.6g}, the analytic one {a:.6g}")
        if not notes:
            return None
        return KINK, "; ".join(notes[:3]) + (f"; and {len(notes) - 3} more" if len(notes) > 3 else "")

    def chosen(self) -> dict[str, list[Index]]:
        """Which elements are looked at, of each."""
        return {name: self._chosen(a) for name, a in self.analytic.items()}

    def _chosen(self, a: Array) -> list[Index]:
        if a.size <= self.max_elements:
            return list(np.ndindex(a.shape))
        extremes = [int(np.abs(a).argmax()), int(np.abs(a).argmin()), 0, a.size - 1]
        drawn = self.rng.choice(a.size, self.max_elements, replace=False)
        flat = sorted(list(dict.fromkeys([*extremes, *map(int, drawn)]))[: self.max_elements])
        return [tuple(int(i) for i in np.unravel_index(k, a.shape)) for k in flat]


def _picked(x: Array, indices: list[Index]) -> Array:
    return np.array([x[index] for index in indices])


def _placed(shape: tuple[int, ...], indices: list[Index], numeric: Array, bars: Array) -> Array:
    """Figures at their places in the array; nan where none was asked for, or none is known."""
    placed = np.full(shape, np.nan)
    for index, figure, bar in zip(indices, numeric, bars, strict=True):
        placed[index] = figure if np.isfinite(bar) else np.nan
    return placed


def _upstream(rng: np.random.Generator, outputs: Outputs, dtype: np.dtype[Any]) -> Outputs:
    drawn = tuple(np.asarray(rng.standard_normal(y.shape)).astype(dtype) for y in outputs)
    if dtype.name in HALVES:  # whose sums may be in another
        drawn = tuple(w.astype(y.dtype) for w, y in zip(drawn, outputs, strict=True))
    for w in drawn:
        w.flags.writeable = False
    return drawn
