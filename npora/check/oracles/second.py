"""Is what backward returns the gradient of anything? Then its own derivative, the Hessian, is symmetric."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from npora.check.oracles.richardson import Along, consistent, noise_level, norm, unit_of
from npora.check.subject import Bench, Subject
from npora.check.verdict.comparison import FAIL, PASS, UNRESOLVED
from npora.check.verdict.report import Element, Report, Row
from npora.nn.module import Array

Directions = dict[str, Array]
KNOWN = 1e-3  # of ⟨u, H v⟩, or of the gradient's terms along u


def second_rows(subject: Subject, dy: tuple[Array, ...], check: Callable[..., Report]) -> Iterator[Row]:
    """⟨u, H v⟩ = ⟨v, H u⟩, with H v from differences of the gradient; and where a framework differentiates its own
    backward, a row for each input of that, dy among them: `second()` of a bridge's function is (*inputs, dy) → dx.

    check : gradcheck, with its options
    """
    yield _symmetry(subject, dy)
    second = getattr(subject.layer, "second", None)
    if second is not None:
        report = check(second(), *subject.inputs, dy, **subject.keywords)
        yield from (replace(row, name=f"second order: {row.name}") for row in report.rows if row.worst is not None)


def _symmetry(subject: Subject, dy: tuple[Array, ...]) -> Row:
    name = "⟨u, H v⟩ = ⟨v, H u⟩"
    rng = np.random.default_rng(2)
    u, v = ({key: unit_of(x) * rng.standard_normal(x.shape) for key, x in subject.point.items()} for _ in range(2))
    bench = subject.at(np.float64)
    size = _gradient(bench, dy, u)[1]
    (first, bar), (second, other) = _slope(bench, dy, u, v), _slope(bench, dy, v, u)
    known, size = bar + other, max(size, abs(first), abs(second))
    note, verdict = f"{first:.9g} and {second:.9g}", PASS
    if not abs(first - second) <= known:
        verdict, note = FAIL, f"{note}: what came is the gradient of no function"
    elif not known <= KNOWN * size:
        verdict, note = UNRESOLVED, f"{note}, known to {known:.1g}"
    ratio = abs(first - second) / known if known else 0.0
    return Row(
        name,
        "second order",
        verdict,
        note,
        (),
        1,
        Element(name, (), first, second, ratio),
        known / size if size else np.inf,
    )


def _gradient(bench: Bench, dy: tuple[Array, ...], along: Directions) -> tuple[float, float]:
    """⟨u, g⟩, and the size of its terms."""
    gradients: dict[str, Any] = bench.gradients(bench.forward()[1], dy)
    terms = [gradients[name] * part for name, part in along.items()]
    return sum(float(np.sum(part)) for part in terms), max(norm(np.asarray(part)) for part in terms)


def _slope(bench: Bench, dy: tuple[Array, ...], u: Directions, v: Directions) -> tuple[float, float]:
    """(⟨u, H v⟩, its error bar): the derivative of ⟨u, g(x + t v)⟩."""
    before = {name: x.copy() for name, x in bench.arrays.items()}

    def moved(t: float) -> float:
        for name, x in bench.arrays.items():
            x[...] = before[name] + t * v[name]
        try:
            return _gradient(bench, dy, u)[0]
        except (ValueError, ArithmeticError, LookupError):
            return float("nan")  # out of the function's domain
        finally:
            for name, x in bench.arrays.items():
                x[...] = before[name]

    noise = noise_level([moved(1e-13 * k) for k in range(1, 8)], _gradient(bench, dy, u)[1])
    slope, bar = consistent(Along(moved), noise)
    return slope, bar
