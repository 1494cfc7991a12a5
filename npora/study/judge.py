"""Is an answer right? By npora.check where it is a backward, and by its values where it is not."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from npora.check import Context, diagnose, gradcheck
from npora.check.oracles.structure import written_to
from npora.check.verdict.evidence import Evidence
from npora.check.verdict.printed import wrapped
from npora.check.verdict.shares import told
from npora.nn.module import Array
from npora.study.attempt import NotRun, code_of, told_of, where
from npora.study.exercises import Exercise
from npora.study.sheet import page
from npora.study.supposed import mistaken_forwards, mistakes
from npora.study.through import Steps, factors_of_shares

DRAWS = 2  # that an answer is judged on
_CLOSE = 2.0**-40  # of the largest value: 8,192 roundings
# What says where an answer is wrong, or how far, and not what is wrong: a mistake is then supposed.
_VAGUE = re.compile(
    r"no known error|nan or inf|unlike the right|wrong at (?!.*should be zero)|a factor of its own|off by |zero in some"
    r"|the (same|mean|sum) .*axis|a missing or extra term|a constant factor [^(]*$|.* times .*, and no more"
)


@dataclass(frozen=True)
class Outcome:
    """What an answer came to, true where it is right.

    says : what is wrong, or why it could not be run; code : 0 right, 1 wrong, 2 not to be run
    """

    exercise: str
    code: int
    says: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.code == 0

    def __str__(self) -> str:
        word = ("right", "wrong", "not judged")[self.code]
        return "\n".join([f"{self.exercise}: {word}", *(f"  {line}" for says in self.says for line in wrapped(says))])

    __repr__ = __str__


def judge(exercise: Exercise, function: Callable[..., Any]) -> Outcome:
    """Judge a function as the answer to an exercise, on each draw until it is found wrong."""
    code = code_of(function)
    filename = code.co_filename if code else ""
    try:
        _check_signature(exercise, function)
        for k in range(DRAWS):
            with told_of(filename), np.errstate(all="ignore"):
                notes = (_wrong_gradients if exercise.forward else _wrong_values)(exercise, function, k)
                came, first = _first_wrong(exercise, function, k, filename) if notes else ((), [])
            if notes:
                with np.errstate(all="ignore"):
                    return Outcome(exercise.name, 1, (*_told(exercise, k, notes, came), *first))
    except _Misfit as error:
        return Outcome(exercise.name, 1, (str(error),))
    except NotRun as error:
        return Outcome(exercise.name, 2, (str(error),))
    place = page(exercise)
    return Outcome(exercise.name, 0, (f"npora has it in {place}",) if place else ())


def _check_signature(exercise: Exercise, function: Callable[..., Any]) -> None:
    if not callable(function):
        raise NotRun(f"expected the function {exercise.hole}; got a {type(function).__name__}")
    inputs, constants = exercise.draw(0)
    upstream = (None,) if exercise.forward else ()
    try:
        inspect.signature(function).bind(*upstream, *inputs, **constants)
    except TypeError as error:
        wanted = str(inspect.signature(exercise.solution)).partition(" -> ")[0]
        names = ", ".join(part.partition(":")[0] for part in wanted.strip("()").split(", "))
        raise NotRun(f"{exercise.hole} is called as {exercise.hole}({names}): {error}") from None
    except ValueError:  # a callable that has no signature may be called with anything
        pass


def _wrong_gradients(exercise: Exercise, function: Callable[..., Any], k: int) -> dict[str, str]:
    """What is wrong, by the name of the gradient or of what holds for any; raises _Misfit."""
    inputs, constants = exercise.draw(k)
    assert exercise.forward is not None

    def backward(*arguments: Any, **keywords: Any) -> Any:
        return _checked(exercise, function(*arguments, **keywords))

    report = gradcheck(exercise.forward, *inputs, vjp=backward, named=exercise.named, seed=k, **constants)
    return {
        f"d{row.name}" if row.name in exercise.inputs else row.name: row.note or row.verdict
        for row in report.rows
        if row.verdict != "PASS"
    }


def _told(exercise: Exercise, k: int, notes: dict[str, str], came: tuple[Array, ...]) -> list[str]:
    """The notes, in their place where they are vague a mistake that makes what came."""
    vague = [number for number, name in enumerate(exercise.wanted) if _VAGUE.match(notes.get(name, ""))]
    if vague and came:
        inputs, constants = exercise.draw(k)
        upstream = _upstream(exercise, k)
        given = inspect.signature(exercise.solution).bind(*upstream, *inputs, **constants).arguments
        right = _as_tuple(exercise, exercise.solution(*upstream, *inputs, **constants))
        for number, note in _explanations(exercise, given, upstream, came, right, vague):
            if number in vague:
                notes = {**notes, exercise.wanted[number]: note}
                vague.remove(number)
    return [f"{name}: {note}" for name, note in notes.items()]


def _explanations(
    exercise: Exercise,
    given: dict[str, Any],
    upstream: tuple[Array, ...],
    came: tuple[Array, ...],
    right: tuple[Array, ...],
    wrong: list[int],
) -> Iterator[tuple[int, str]]:
    """What may be wrong at each number of `wrong`, plainest first, while there are any left."""
    if exercise.forward and all(np.isfinite(np.asarray(came[k])).all() for k in wrong):
        dy, by = upstream[0], exercise.inputs
        arguments = {name: x for name, x in given.items() if name in exercise.arguments}
        steps = Steps(exercise.forward, arguments, [by[k] for k in wrong], dy)
        shares, wholes = steps.named()
        for k in tuple(wrong):
            evidence = Evidence(np.asarray(came[k], float), np.asarray(right[k], float), 1e-9)
            yield from ((k, note) for note in islice(told(evidence, shares[by[k]] | wholes[by[k]], {}), 1))
        for k, words in (
            mistaken_forwards(exercise.forward, arguments, by, dy, came, tuple(wrong)).items() if wrong else ()
        ):
            yield k, f"this is the gradient of a forward {words}"
        for k in tuple(wrong):
            evidence = Evidence(np.asarray(came[k], float), np.asarray(right[k], float), 1e-9)
            notes = factors_of_shares(evidence, shares[by[k]], steps.numbers())
            yield from ((k, note) for note in islice(notes, 1))
        for name, x in arguments.items() if wrong else ():
            if np.asarray(x).dtype.kind == "f":
                left = Steps(exercise.forward, {**arguments, name: np.ones_like(x)}, [by[k] for k in wrong], dy)
                others, _ = left.named()
                for k in tuple(wrong):
                    error = np.asarray(came[k]) - right[k]
                    for words, share in shares[by[k]].items():
                        if words in others[by[k]] and np.allclose(
                            error, others[by[k]][words] - share, 1e-9, 1e-9 * float(np.abs(right[k]).max())
                        ):
                            yield k, f"{words} is as it would be without {name}"
                            break
    output = (
        f"{exercise.name}({', '.join(f'{name}={name}' for name in exercise.arguments)})" if exercise.forward else ""
    )
    for k, words in mistakes(exercise.solution, given, came, tuple(wrong), output).items() if wrong else ():
        yield k, f"this is what comes {words}"


def _upstream(exercise: Exercise, k: int) -> tuple[Array, ...]:
    """The k-th upstream gradient, of an exercise that has one."""
    if not exercise.forward:
        return ()
    inputs, constants = exercise.draw(k)
    return (np.asarray(np.random.default_rng(k).standard_normal(np.shape(exercise.forward(*inputs, **constants)))),)


class _Misfit(Exception):
    """What was returned is not what was asked for, whatever its values."""


def _checked(exercise: Exercise, returned: Any) -> Any:
    """What was returned, if it is as many arrays as were asked for, each of its shape."""
    names = exercise.wanted
    items = list(_as_tuple(exercise, returned))
    listed = f"({', '.join(names)})" if len(names) > 1 else names[0]
    if returned is None or any(item is None for item in items):
        raise _Misfit(f"None was returned, expected {listed}")
    if len(items) != len(names):
        raise _Misfit(f"{len(items)} arrays were returned, expected {len(names)}: {listed}")
    shapes = [np.shape(x) for x in exercise.draw(0)[0]] if exercise.forward else []
    for name, item, shape in zip(names, items, shapes, strict=False):
        array = np.asarray(item)
        if array.dtype.kind not in "fiu":
            numbers = isinstance(item, np.ndarray) or array.dtype.kind not in "OUS"
            what = f"an array of {array.dtype}" if numbers else f"a {type(item).__name__}"
            raise _Misfit(f"{name} is {what}, expected an array of real numbers")
        if array.shape != shape:
            hint = (
                ": it has the shape of the transpose" if array.shape[::-1] == shape else _unsummed(array.shape, shape)
            )
            raise _Misfit(f"{name} has shape {list(array.shape)}, expected {list(shape)}{hint}")
    return tuple(items) if len(items) > 1 else items[0]


def _unsummed(came: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    if len(came) > len(wanted) and came[len(came) - len(wanted) :] == wanted:
        return ": is it not summed over the leading axes, along which it is shared?"
    return ""


def _wrong_values(exercise: Exercise, function: Callable[..., Any], k: int) -> dict[str, str]:
    """What is wrong, by the name of what was returned; raises _Misfit."""
    inputs, constants = exercise.draw(k)
    try:
        came = _as_tuple(exercise, _checked(exercise, function(*inputs, **constants)))
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        raise _Misfit(written_to(error).note) from None
    known = exercise.named(*inputs, **constants) if exercise.named else {}
    told = {name: x for name, x in known.items() if np.ndim(x)}
    factors = {name: float(x) for name, x in known.items() if not np.ndim(x)}
    context = Context(factors, {**told, **dict(zip(exercise.inputs, inputs, strict=True))}, told=told)
    notes: dict[str, str] = {}
    for name, a, n in zip(
        exercise.wanted, came, _as_tuple(exercise, exercise.solution(*inputs, **constants)), strict=True
    ):
        a = np.asarray(a)
        if a.shape != n.shape:
            raise _Misfit(f"{name} has shape {list(a.shape)}, expected {list(n.shape)}")
        if not (np.abs(a - n) <= _CLOSE * np.abs(n).max()).all():
            notes[name] = diagnose(a, n, context, 1e-10)
    return notes


def _first_wrong(
    exercise: Exercise, function: Callable[..., Any], k: int, filename: str
) -> tuple[tuple[Array, ...], list[str]]:
    """What came, and in words its first element that is not right; and where nan or inf arises."""
    inputs, constants = exercise.draw(k)
    upstream = _upstream(exercise, k)
    try:
        came = _as_tuple(exercise, function(*(x.copy() for x in upstream), *inputs, **constants))
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        return (), []
    right = _as_tuple(exercise, exercise.solution(*upstream, *inputs, **constants))
    for name, a, n in zip(exercise.wanted, came, right, strict=True):
        n = np.asarray(n)
        bad = np.argwhere(~(np.abs(np.asarray(a) - n) <= _CLOSE * max(float(np.abs(n).max()), 1e-300)))
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            place = f"{name}{list(at) if at else ''}"
            found = [f"first at {place}: yours is {np.asarray(a)[at]:.6g}, the right one {n[at]:.6g}"]
            if not np.isfinite(a).all():
                found += _raising(function, (*upstream, *inputs), constants, filename)
            return came, found
    return came, []


def _raising(function: Callable[..., Any], arguments: Any, constants: Any, filename: str) -> list[str]:
    """The line in which nan or inf arises, as far as NumPy notices."""
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            function(*arguments, **constants)
    except FloatingPointError as error:
        return [f"{where(error, filename)}: {error}"]
    return []


def _as_tuple(exercise: Exercise, returned: Any) -> tuple[Any, ...]:
    """What was returned, thing by thing; where one is wanted, a list of numbers is one array."""
    if not isinstance(returned, tuple | list):
        return (returned,)
    if len(exercise.wanted) == 1 and len(returned) > 1 and not any(isinstance(x, np.ndarray) for x in returned):
        try:
            return (np.asarray(returned),)
        except ValueError:  # lists of several lengths
            pass
    return tuple(returned)
