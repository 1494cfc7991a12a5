"""Is this gradient right? Every oracle put together."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.check.examination import Examination
from npora.check.half import in_half
from npora.check.inputs import WrittenTo, generator
from npora.check.oracles.dot_product import LARGE, DotProducts
from npora.check.oracles.identities import identity_rows
from npora.check.oracles.large import LargeProbe
from npora.check.oracles.second import second_rows
from npora.check.oracles.structure import structure, written_to
from npora.check.subject import Subject
from npora.check.verdict.blame import culprit
from npora.check.verdict.comparison import DETACHED, FAIL, HALVES, WRONG
from npora.check.verdict.replay import replay_line
from npora.check.verdict.report import Found, Report, Row

METHODS = ("auto", "complex", "central", "dot-product")
MANY = 20_000  # with more elements than these `auto` takes the dot-product test


def gradcheck(
    layer: Any,
    *inputs: Any,
    vjp: Callable[..., Any] | None = None,
    named: Callable[..., Mapping[str, Any]] | None = None,
    method: str = "auto",
    dtype: npt.DTypeLike = np.float64,
    reference: Any = None,
    seed: int = 0,
    max_elements: int = 2000,
    randomize: bool = True,
    steps: int = 0,
    order: int = 1,
    blame: bool = False,
    raise_exception: bool = False,
    **keywords: Any,
) -> Report:
    """Check the pullback of `y, backward = layer(*inputs, **keywords)` for a random upstream gradient dy.

    Every floating-point array in the inputs, and every trainable parameter of a copy of a Module, is differentiated by;
    φ(x) = ⟨dy, f(x)⟩. Generators among the arguments are copied for each call, so that dropout draws the same.
    Linearity in dy is looked at for huge and for tiny dy too. A difference is rounding, and UNRESOLVED instead of FAIL,
    where an ulp more or less in the numbers of each operation moves the gradient as much.

    An input may be a tuple, list, dict, NamedTuple or dataclass of arrays, of any depth; each has a row, as x[0],
    x['a'] or x.a. backward returns the gradient of the one input that has any, or a tuple with one for each input, or
    for each that has any; that of a structure is a structure like it. Arrays of integers or truth values, arrays
    without elements, numbers beside an array, and whatever is given by keyword have no gradient: None stands there, or
    nothing. None for any other is an error of the pullback, unless the gradient is zero. Integers among the outputs
    have none either: backward takes one dy for each floating-point output, and for a dict, or a structure in a tuple,
    one that is built like it. What a forward computes by `held` is a constant of the gradient: it is computed once, and
    stays what it was wherever forward is evaluated.

    Parameters
    ----------
    layer : a Module, or any function that returns `(y, backward)`; y an array, a tuple of arrays, or a model's output.
        One dict in place of the inputs, with a key that names an argument, is a batch, passed as keywords.
    vjp : for a plain f that returns y alone: `vjp(dy, *inputs)` returns the inputs' gradients
    named : what a wrong gradient may be told by beside the inputs and the output: `named(dy, *inputs)` returns by name
        (one that ends in " (dx)" is for the gradient of x alone)
        numbers, factors, shares of the right gradient ("the share of the mean"), and likely wrong ones, whose names
        begin with "the gradient"
    method : "complex", the complex step at every element, confirmed by a table of differences along one direction;
        where the two contradict each other and there is no kink, differences decide at every element. "central", that
        table at every element, which asks nothing of f; "dot-product", a few forwards for a model of any size, whose
        report says how small an error of one element it sees; "auto" is "complex" up to 20,000 elements. More than a
        million elements get none of the other checks, and where complex numbers are of no use, one direction
    dtype : float64, or float32: then a float32 backward is compared with the float64 derivative; float16 or bfloat16
        (of ml_dtypes): inputs and parameters are rounded once, and the gradient's error is told from its rounding by
        how it varies over points around them
    reference : the same function for the oracles, which may return y alone, where the layer itself does not run in
        float64; of a Module one with the same parameters
    max_elements : of each array; larger ones are sampled, the extremes and corners always among them
    randomize : move parameters that are zero or constant off that value, on the copy
    steps : first take so many steps of Adam on the copy, away from where everything starts
    order : 2 looks at second derivatives too: the gradient's own derivative must be symmetric, and right where torch
        or JAX differentiates a backward, which may have kept as a constant what is none (of functions, not of Modules)
    blame : name the deepest module inside whose own pullback is wrong
    raise_exception : raise AssertionError, with the report as its text, unless every row is PASS

    Raises
    ------
    TypeError, ValueError: what was passed, returned or computed cannot be checked; says which and what was expected.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}")
    if vjp is not None and not callable(vjp):
        raise TypeError(f"vjp must be a function, called as vjp(dy, *inputs); got {type(vjp).__name__}")
    if named is not None and not callable(named):
        raise TypeError(f"named must be a function, called as named(dy, *inputs); got {type(named).__name__}")
    if reference is not None and not callable(reference):
        raise TypeError(f"reference must be a function, called as the layer is; got {type(reference).__name__}")
    for name, value, least in (("seed", seed, 0), ("max_elements", max_elements, 1), ("steps", steps, 0)):
        if not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be a whole number, {least} or more; got {value!r}")
    if order not in (1, 2):
        raise ValueError(f"order must be 1 or 2; got {order!r}")
    rng = generator(seed)
    subject = Subject(layer, inputs, keywords, vjp, dtype, rng if randomize else None, reference)
    if steps and subject.dtype.name in HALVES:
        raise ValueError(f"steps are taken in float64 or float32, not in {subject.dtype}: pass trained parameters")
    replay = replay_line(layer, inputs, keywords, {
        "method": method, "dtype": subject.dtype.name, "seed": seed, "max_elements": max_elements,
        "randomize": randomize, "steps": steps, "reference": reference, "order": order,
    })  # fmt: skip
    try:
        check = Examination(subject, rng, max_elements, method == "central", named)
        if subject.dtype.name in HALVES:
            found = in_half(check, partial(_examined, method=method))
        else:
            check.take(steps)
            found = _examined(check, method)
    except ValueError as error:
        if "read-only" not in str(error) and not isinstance(error, WrittenTo):
            raise
        return _raised(Report(str(subject), (written_to(error),), replay=replay), raise_exception)
    rows = [_detached(row, check) for row in found.rows]
    if subject.size <= LARGE:
        rows += structure(check.bench, check.dy, check.analytic, check.other, check.rounding)
    if order == 2:
        if (refusal := subject.refusal_of(np.float64)) is not None:
            raise ValueError(f"order=2 is looked at in float64, in which {subject} does not run") from refusal
        again = partial(gradcheck, method=method, seed=seed, max_elements=max_elements)
        rows += second_rows(subject, check.exact_dy, again)
    notes = [*found.notes, *check.rounding.notes]
    if subject.held:
        names = ", ".join(dict.fromkeys(name for name, _ in subject.held))
        notes.append(f"held constant, as the layer says that its gradient treats it: {names}")
    if subject.randomized:
        notes.append(f"moved off their constant value, on a copy: {', '.join(subject.randomized)}")
    if blame and any(row.verdict in WRONG for row in rows):
        notes.append(culprit(subject, partial(gradcheck, seed=seed, dtype=dtype, max_elements=min(max_elements, 50))))
    elements = sorted(found.elements, key=lambda element: -element.ratio)[:10]
    notes = list(dict.fromkeys(notes))
    return _raised(
        Report(str(subject), tuple(rows), tuple(elements), tuple(notes), replay, found.ratios), raise_exception
    )


def _examined(check: Examination, method: str) -> Found:
    """The rows that compare numbers: element by element, or along directions, and the layer's identities."""
    subject, found = check.subject, Found()
    large = subject.size > LARGE
    probe = LargeProbe(subject.exact, check.exact_dy) if large else check.oracles
    errors = lambda: check.errors  # noqa: E731 - which cost a few runs
    directions = DotProducts(subject, probe, check.analytic, check.again, check.idle, check.rounding, errors)
    heard: list[Row] = []
    if method == "dot-product" or (method == "auto" and (large or sum(x.size for x in subject.point.values()) > MANY)):
        found.rows = heard = list(directions.rows(check.rng))
    else:
        found.take(check.rows())
        rows = found.rows
        if any(row.checked < math.prod(row.shape) for row in rows) and all(row.verdict != FAIL for row in rows):
            heard = list(directions.rows(check.rng))
            found.rows = _unsampled(rows, heard)
    if not large:
        found.rows = [*found.rows, *identity_rows(subject, check.dy)]
    found.notes += probe.notes
    alone = [row.alone for row in heard if math.isfinite(row.alone)]
    if alone:
        said = f"directions see an error in one element alone from {max(alone):.1e} of its tensor's largest gradient on"
        each = f"; one by one: {', '.join(f'{limit:.1e}' for limit in alone)}" if len(alone) > 1 else ""
        found.notes.append(said + each)
    return found


def _raised(report: Report, raise_exception: bool) -> Report:
    if raise_exception:
        report.raise_if_failed()
    return report


def _detached(row: Row, check: Examination) -> Row:
    """Where no gradient came, or nothing but zeros, that is what is wrong, and no formula."""
    if row.verdict != FAIL or row.name not in check.analytic or check.analytic[row.name].any():
        return row
    came = "returned" if row.name in check.subject.places else "accumulated"
    if row.name not in check.bench.missing:
        return replace(row, verdict=DETACHED, note="all zero: detached, dropped, or never returned or accumulated")
    slope = row.worst.numeric if row.worst else 0.0
    at = f" at {list(row.worst.index)}" if row.worst and row.worst.index else ""
    note = f"no gradient was {came} for {row.name}, though the right one is not zero: {slope:.6g}{at}"
    return replace(row, verdict=DETACHED, note=note)


def _unsampled(rows: list[Row], directions: list[Row]) -> list[Row]:
    """Where only some elements were compared, directions through all of them may still find a tensor wrong."""
    wrong = {row.name: row.note for row in directions if row.verdict == FAIL}
    note = ". An element that was not looked at is wrong: raise max_elements"
    alone = max(row.alone for row in directions if not math.isnan(row.alone))
    rows = [replace(row, caught=max(row.caught, alone)) if row.checked < math.prod(row.shape) else row for row in rows]
    judged = [replace(row, verdict=FAIL, note=wrong[row.name] + note) if row.name in wrong else row for row in rows]
    names = {row.name for row in rows}
    return judged + [row for row in directions if row.name not in names]
