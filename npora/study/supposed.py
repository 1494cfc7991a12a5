"""Suppose that one thing was mistaken: which mistake in the right formula makes what came?

Where no name fits a wrong answer, the forward is broken in each of the usual ways (edits.py), or called with each of
its arguments mistaken, and its gradient is compared with the answer; then the solution is, and what it returns. Nothing
is fitted: a mistake is named where its values are the answer's, to rounding. Where no single one is, two together are
tried.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from npora.nn.module import Array
from npora.study.edits import Edit, augmented, axes, edits, text
from npora.study.misread import exchanged, misread, throughout
from npora.study.through import STEP
from npora.study.trees import number, numbered, replaced

PAIRS = 1000  # that are tried, over the number of functions
_CLOSE = 1e-9  # of the largest value
Function = Callable[..., Any]


class Supposed(NamedTuple):
    """A Supposed mistake: in words, by the edits that make it or by what it makes of the arguments."""

    words: str
    edits: tuple[Edit, ...] = ()
    arguments: Callable[[dict[str, Any]], dict[str, Any]] = lambda given: given
    result: Callable[[Array, dict[str, Any]], Array] = lambda y, given: y


def mistakes(
    solution: Function, given: dict[str, Any], came: Sequence[Array], wrong: Sequence[int], output: str = ""
) -> dict[int, str]:
    """The mistake that explains what came at each number of `wrong`, in words: one for all where there is one.

    given : the arguments of the solution, by name; came : what was returned in its place; output : the forward's value
    as it can be written in the solution
    """

    def alike(supposed: Supposed, formula: _Formula) -> list[int]:
        returned = formula.run(supposed, given)
        if returned is None or len(returned) != len(came):
            return []
        return [k for k in wrong if _alike(returned[k], came[k])]

    formula = _formula(solution, output)
    return _explained(formula, (formula.single(given), formula.pairs()), alike, wrong) if formula else {}


def mistaken_forwards(
    forward: Function, given: dict[str, Any], by: Sequence[str], dy: Array, came: Sequence[Array], wrong: Sequence[int]
) -> dict[int, str]:
    """The mistake in a forward whose gradient came at each number of `wrong`; tried in one random direction of each.

    given : the arguments of the forward; by : the names of the inputs that `came` has the gradients of
    """
    rng = np.random.default_rng(0)
    along = {k: rng.standard_normal(np.shape(came[k])) for k in wrong}

    def alike(supposed: Supposed, formula: _Formula) -> list[int]:
        found = []
        for k, u in along.items():
            moved = formula.run(supposed, {**given, by[k]: given[by[k]] + 1j * STEP * u})
            if moved is None or len(moved) != 1 or moved[0].shape != dy.shape:
                break
            slope, wanted = float(np.vdot(dy, moved[0].imag)) / STEP, float(np.vdot(came[k], u))
            if abs(slope - wanted) <= _CLOSE * np.abs(came[k] * u).sum():
                found.append(k)
        return found

    formula = _formula(forward)
    return _explained(formula, (formula.single(given),), alike, wrong) if formula else {}


def _formula(function: Function, output: str = "") -> _Formula | None:
    try:
        return _Formula(function, output)
    except (AttributeError, OSError, TypeError):  # there is no source of it here
        return None


def _explained(
    formula: _Formula,
    levels: tuple[Iterator[Supposed], ...],
    alike: Callable[[Supposed, _Formula], list[int]],
    wrong: Sequence[int],
) -> dict[int, str]:
    found: dict[int, str] = {}
    with np.errstate(all="ignore"):
        for level in levels:
            for supposed in level:
                fitting = alike(supposed, formula)
                if len(fitting) == len(wrong):
                    return dict.fromkeys(wrong, supposed.words)
                for k in fitting:
                    found.setdefault(k, supposed.words)
            if len(found) == len(wrong):
                break
    return found


def _alike(one: Array, other: Array) -> bool:
    other = np.asarray(other)
    if one.shape != other.shape or one.dtype.kind not in "fiub" or other.dtype.kind not in "fiub":
        return False
    known = np.isfinite(other)
    if not known.any() or not np.array_equal(known, np.isfinite(one)):
        return False
    one, other = one[known] * 1.0, other[known] * 1.0
    return bool((np.abs(one - other) <= _CLOSE * np.abs(other).max(initial=1e-300)).all())


class _Formula:
    """The source of a solution, and of the functions beside it that it calls."""

    def __init__(self, solution: Function, output: str = "") -> None:
        self.output = ast.parse(output, mode="eval").body if output else None
        self.name, self.namespace = solution.__name__, dict(solution.__globals__)
        self.trees: list[ast.FunctionDef] = []
        waiting, first = [solution], 0
        while waiting:
            function = waiting.pop()
            tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
            if not isinstance(tree, ast.FunctionDef) or tree.name in [other.name for other in self.trees]:
                continue
            first = numbered(tree, first)
            self.trees.append(tree)
            self.namespace |= {name: x for name, x in function.__globals__.items() if name not in self.namespace}
            used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
            found = [function.__globals__.get(name) for name in sorted(used)]
            waiting += [f for f in found if inspect.isfunction(f) and f.__module__.startswith("npora.study.exercises")]
        self.made = [(tree, {number(node) for node in ast.walk(tree)}, _compiled(tree)) for tree in self.trees]
        for _, _, code in self.made:  # the functions see each other in one namespace
            exec(code, self.namespace)

    def run(self, supposed: Supposed, given: dict[str, Any]) -> tuple[Array, ...] | None:
        """What comes, or None where nothing does."""
        namespace = self.namespace
        try:
            if supposed.edits:
                namespace = dict(self.namespace)
                places = {edit.place: edit.to for edit in supposed.edits}
                for tree, numbers, code in self.made:  # unchanged ones too, so that they call the changed ones
                    changed = not numbers.isdisjoint(places)
                    exec(_compiled(replaced(tree, places)) if changed else code, namespace)
            arguments = supposed.arguments(given)
            returned = namespace[self.name](**arguments)
            items = returned if isinstance(returned, tuple) else (returned,)
            return tuple(np.asarray(supposed.result(item, given)) for item in items)
        except Exception:  # what a broken formula raises is of no interest: it is no explanation
            return None

    def single(self, given: dict[str, Any]) -> Iterator[Supposed]:
        yield from mistaken(given)
        for of in (edits, augmented, misread):
            yield from (Supposed(edit.words, (edit,)) for tree in self.trees for edit in of(tree))
        if self.output:
            places = [node for node in ast.walk(self.trees[0]) if isinstance(node, ast.Name | ast.Call)]
            for node in places:
                if isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
                    words = f"with the output in the place of {text(node)}"
                    yield Supposed(words, (Edit(words, number(node), self.output),))
        for tree in self.trees:
            for words, together in (*throughout(tree), *exchanged(tree)):
                yield Supposed(words, tuple(together))
        whole = ast.Module(self.trees, [])  # type: ignore[arg-type]
        for tree_or_all in (*self.trees, whole):
            for words, together in axes(tree_or_all):
                yield Supposed(words, tuple(together))

    def pairs(self) -> Iterator[Supposed]:
        """Two edits at once."""
        single = [edit for tree in self.trees for edit in edits(tree)]
        tried = [pair for pair in combinations(single, 2) if pair[0].place != pair[1].place]
        tried.sort(key=lambda pair: _kind(pair[0]) != _kind(pair[1]))  # the same mistake in two places comes first
        for one, other in tried[: PAIRS // len(self.trees)]:
            yield Supposed(f"{one.words}, and {other.words}", (one, other))


def _kind(edit: Edit) -> str:
    return re.sub("`[^`]*`|what is made of .*", "", edit.words)


def mistaken(given: dict[str, Any]) -> Iterator[Supposed]:
    """Each argument mistaken for something that is near it."""
    for name, value in given.items():
        for other_name, other in given.items():
            if other_name != name and isinstance(value, np.ndarray) and _fits_in(np.shape(other), value.shape):
                for words, x in _mixed(name, value, other_name, other):
                    yield Supposed(f"with {words}", arguments=lambda all_, n=name, x=x: {**all_, n: x})  # type: ignore[misc]
        for words, other in _near(value):
            yield Supposed(f"with {name} {words}", arguments=lambda all_, n=name, x=other: {**all_, n: x})  # type: ignore[misc]
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            one = np.ones_like(value)
            yield Supposed(
                f"with {name} as a factor of the whole",
                arguments=lambda all_, n=name, x=one: {**all_, n: x},  # type: ignore[misc]
                result=lambda y, all_, n=name: y * all_[n],  # type: ignore[misc]
            )


def _mixed(name: str, value: Array, other_name: str, other: Array) -> Iterator[tuple[str, Array]]:
    """What an argument is mistaken for where there is another of its shape."""
    if value.dtype.kind == "b":
        yield f"{other_name} > 0 in the place of {name}", np.broadcast_to(other > 0, value.shape)
    elif isinstance(other, np.ndarray):
        yield f"{other_name} in the place of {name} throughout", np.broadcast_to(other, value.shape)
        yield f"{other_name} added to {name}", value + other
        yield f"{other_name} as a factor of {name}", value * other


def _fits_in(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Does an array of the one shape broadcast to the other?"""
    return 0 < len(one) <= len(other) and other[len(other) - len(one) :] == one


def _near(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, tuple):
        yield "in the opposite order", value[::-1]
    elif isinstance(value, float):
        yield "left out (as 1)", 1.0
        yield "left out (as 0)", 0.0
        yield "of the other sign", -value
        yield "mistaken for 1 less it", 1 - value
        yield "mistaken for 1 over it", 1 / value
        yield "squared", value * value
    elif isinstance(value, int):
        yield "one too large", value + 1
        yield "one too small", value - 1
    elif isinstance(value, np.ndarray) and value.ndim:
        yield "in the opposite order", value[::-1]
        for step in (1, -1):
            yield f"shifted by {step} along axis 0", np.roll(value, step, axis=0)
        if value.dtype.kind == "b":
            yield "True everywhere", np.ones_like(value)
            yield "turned into its opposite", ~value
            yield "True at the beginning of each row alone", -np.sort(-value.astype(int), axis=-1) > 0
            yield "True at the end of each row alone", np.sort(value, axis=-1)
            yield "True at the first True of each row alone", value & (value.cumsum(axis=-1) == 1)
            yield "True at the last True of each row alone", value & (value[..., ::-1].cumsum(axis=-1)[..., ::-1] == 1)
        elif value.dtype.kind == "i":
            yield "counted from 0 on, whatever it holds", np.arange(value.size).reshape(value.shape)
            yield "one too large", value + 1
            yield "one too small", value - 1
            yield "zero", np.zeros_like(value)
        else:
            yield "left out (as 1)", np.ones_like(value)
            yield "left out (as 0)", np.zeros_like(value)
            yield "rounded down at zero", np.maximum(value, 0)
            yield "without its sign", np.abs(value)
            yield "of the other sign", -value
            yield "rounded to whole numbers", np.round(value)
            yield "centred along the last axis", value - value.mean(axis=-1, keepdims=True)
            yield "everywhere as it is at first", np.broadcast_to(value[:1], value.shape)
            yield "everywhere as it is in the mean over axis 0", np.broadcast_to(value.mean(axis=0), value.shape)


def _compiled(tree: ast.AST) -> Any:
    return compile(ast.Module([tree], []), "<supposed>", "exec")  # type: ignore[list-item]
