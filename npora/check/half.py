"""Is a gradient right that is computed in float16 or bfloat16? It is measured beside one in float64, point by point."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from npora.check.examination import Examination
from npora.check.oracles.around import ERRORS, Gradients, Right, around, by_pullback
from npora.check.oracles.complex_step import Index
from npora.check.oracles.derivatives import Oracles
from npora.check.oracles.rounding import Rounding
from npora.check.outputs import Outputs
from npora.check.subject import Subject
from npora.check.verdict.comparison import FAIL, PASS, UNRESOLVED, VACUOUS, Precision, precision_of
from npora.check.verdict.diagnosis import diagnose
from npora.check.verdict.report import Element, Found, Row
from npora.nn.module import Array

POINTS = (16, 64, 256)  # as many, until a factor is known to FINE
FINE, ENOUGH = 6e-3, 8e-3  # so that 1.01 is told from 1
SYSTEMATIC = 4  # u of a tensor's largest gradient: what constants that are rounded do to an element, everywhere alike

Chosen = Mapping[str, list[Index]]


@dataclass
class Stick:
    """A kernel in half precision, a gradient a, beside the gradient g in float64 of the same numbers.

    Inputs, parameters and dy are rounded once. At one point a − g is an error or a rounding, and nothing tells which.
    So both are computed at 16 points or more, 2⁴ u around the first, where every sum is rounded otherwise: a rounding
    has another sign there, an error stays. With the mean e̅ of e = a − g over the points and its standard error s,

        |e̅| ≤ 8 s + 4 u G_T                          of each element; G_T is the largest |g| of the tensor      (1)
        c = Σ e g / Σ g²,   |c| ≤ u + 5 s_c          of the tensor: 1 + c is the factor by which a differs      (2)

    s_c is from the elements' own sums of (e − c g) g, since the roundings of one element may go together. What the
    kernel draws or adds in another order each time is in s and s_c too. What is rounded alike at all of the points, as
    a probability that is nearly 1, is not: what such roundings in the formula do to g, `moves`, widens (1), and (2)
    where it is far more than u. (2) sees a factor that no element shows: the tensor is UNRESOLVED, not PASS, unless it
    is known to 8e-3.
    """

    kernel: Subject
    dy: Outputs  # numbers of the kernel's dtype
    chosen: Chosen
    right: Right
    rng: np.random.Generator
    moves: Mapping[str, Array] = field(default_factory=dict)  # [runs, elements]
    _came: dict[str, list[Array]] = field(default_factory=dict)
    _right: dict[str, list[Array]] = field(default_factory=dict)
    _known: float = 0.0  # the least known factor

    def rows(self) -> Iterator[tuple[Row, list[Element], Array]]:
        for fewer, points in pairwise((0, *POINTS)):
            self._take_points(points - fewer)
            self._known = 0.0
            found = [self._judged(name) for name in self.chosen]
            if self._known <= FINE:
                break
        yield from found

    def _take_points(self, count: int) -> None:
        """Both gradients at points beside the first."""
        for came, right in around(self.kernel, self.dy, count, self.right, self.rng):
            for name in self.chosen:
                self._came.setdefault(name, []).append(_picked(came[name], self.chosen[name]))
                self._right.setdefault(name, []).append(_picked(right[name], self.chosen[name]))

    def _judged(self, name: str) -> tuple[Row, list[Element], Array]:
        indices, shape = self.chosen[name], self.kernel.point[name].shape
        oracle = self.kernel.dtype.name
        if len(self._came.get(name, ())) < POINTS[0] // 2:
            row = Row(name, oracle, UNRESOLVED, "the function is not defined around the point", shape, len(indices))
            return row, [], np.full(shape, np.nan)
        came, right = np.array(self._came[name]), np.array(self._right[name])  # [points, elements]
        with np.errstate(all="ignore"):  # nan and inf fail
            m = _measure(came, right, self.moves.get(name, 0 * right), precision_of(self.kernel.dtype))
        verdict, note = m.verdict
        self._known = max(self._known, m.known)
        a, n = came.mean(axis=0), right.mean(axis=0)
        if verdict == FAIL and not note:
            known = _placed(shape, indices, n)
            note = diagnose(np.where(np.isnan(known), 0.0, _placed(shape, indices, a)), known, None, 4 * m.known)
        elements = [
            Element(name, indices[k], float(a[k]), float(n[k]), float(m.ratio[k]))
            for k in map(int, np.argsort(-m.ratio)[:10])
        ]
        row = Row(name, oracle, verdict, note, shape, len(indices), elements[0], m.caught)
        return row, elements, _placed(shape, indices, m.ratio)


@dataclass(frozen=True)
class _Measure:
    """By (1) and (2): ratio, |e̅| over what is allowed, of each element; c, and what is allowed of it; caught, the
    smallest error of one element, relative to G_T, that would have been a FAIL."""

    ratio: Array
    factor: float
    known: float
    caught: float
    zero: bool

    @property
    def verdict(self) -> tuple[str, str]:
        if not (self.ratio <= 1).all():
            return FAIL, ""
        if self.zero:
            return VACUOUS, ""
        if abs(self.factor) > self.known:
            return FAIL, f"a constant factor {1 + self.factor:.4g}, known to ± {self.known:.1g}"
        if self.known > ENOUGH:
            return UNRESOLVED, f"its rounding hides a factor from {1 - self.known:.3g} to {1 + self.known:.3g}"
        return PASS, ""


def _measure(came: Array, right: Array, moves: Array, p: Precision) -> _Measure:
    e = came - right
    points, count = e.shape
    error = e.std(axis=0, ddof=1) / np.sqrt(points)
    largest = float(np.sqrt((right**2).mean(axis=0)).max())
    allowed = ERRORS * error + SYSTEMATIC * max(p.u * largest, float(np.abs(moves).max())) + 4 * p.least
    ratio = np.nan_to_num(np.abs(e.mean(axis=0)) / allowed, nan=np.inf)
    size = float((right**2).sum())
    if not size:
        return _Measure(ratio, 0.0, 0.0, np.inf, zero=True)
    factor = float((e * right).sum()) / size
    rest = (e - factor * right) * right
    together = float(np.sqrt((rest.sum(axis=0) ** 2).sum())) if count > 3 else 0.0
    known = 5 * max(together, float(np.sqrt((rest**2).sum()))) + 4 * p.least * float(np.abs(right).sum())
    n = right.mean(axis=0)
    alike = float(np.abs(moves @ n).max()) / float((n**2).sum()) if n.any() else 0.0
    known = (alike if alike > 4 * p.u else p.u) + known / size
    return _Measure(ratio, factor, known, float(allowed.max()) / largest, zero=False)


def in_half(check: Examination, examined: Callable[[Examination], Found]) -> Found:
    """What is found of a kernel: its formula, in float64 by every oracle, and its numbers, beside those.

    Where the formula does not pass, that is the row; else how the kernel's own gradient compares is.

    Raises
    ------
    TypeError: the function does not run in float64, and no reference was given.
    """
    kernel = check.subject
    exact, found = kernel.exact, Found()
    if (refusal := exact.refusal_of(np.float64)) is not None:
        raise TypeError(
            f"{kernel} does not run in float64, in which its gradient in {kernel.dtype} is measured: pass reference=, "
            f"the same function in NumPy"
        ) from refusal
    chosen, moves = check.chosen(), Gradients()
    right: Right = by_oracles(chosen)
    if not exact.is_reference or exact.has_pullback():
        formula = Examination(exact, check.rng, check.max_elements, check.by_differences, check.named)
        found, right = examined(formula), by_pullback
        wrong = {row.name for row in found.rows if row.verdict != PASS}
        chosen = {name: indices for name, indices in chosen.items() if name not in wrong | formula.idle.keys()}
        rounding = Rounding(exact, check.exact_dy)
        g = by_pullback(exact, check.exact_dy, {})
        runs = rounding.to(kernel.dtype)
        moves = {key: np.array([_picked(h[key] - g[key], at) for h in runs]) for key, at in chosen.items() if runs}
        if not wrong:
            found.notes.append("in float64 its formula passes at the same numbers")
    stick = Stick(kernel, check.dy, chosen, right, check.rng, moves)
    for row, elements, ratio in stick.rows():
        if all(other.name != row.name for other in found.rows):
            found.rows.append(row)
        found.rows = [row if other.name == row.name else other for other in found.rows]
        found.elements = [element for element in found.elements if element.name != row.name] + elements
        found.ratios[row.name] = ratio
    return found


def by_oracles(chosen: Chosen) -> Right:
    """As the oracles give it, at the chosen elements, of a reference that returns its value alone."""

    def right(exact: Subject, dy: Outputs, came: Gradients) -> Gradients:
        oracles, found = Oracles(exact, dy, np.random.default_rng(0), by_differences=False), {}
        for name, indices in chosen.items():
            found[name] = np.zeros(came[name].shape)
            numeric, _ = oracles.derivatives(name, indices, _picked(came[name], indices))
            for index, value in zip(indices, numeric, strict=True):
                found[name][index] = value
        return found

    return right


def _picked(g: Array, indices: list[Index]) -> Array:
    return np.array([g[index] for index in indices], np.float64)


def _placed(shape: tuple[int, ...], indices: list[Index], values: Array) -> Array:
    placed = np.full(shape, np.nan)
    for index, value in zip(indices, values, strict=True):
        placed[index] = value
    return placed
