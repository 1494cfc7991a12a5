"""What of a gradient comes through each step of a forward, found by the forward itself.

    share of a step = the gradient − the gradient with that step held at its value                                (1)

A path that was forgotten, a sign, a mean for a sum: each makes a share come a wrong number of times. A slope that was
forgotten is a step s(a) taken for a:

    the gradient with s(a) held at s(a₀) + a − a₀                                                                 (2)

Gradients are by complex steps, so both are exact to rounding, and nothing is known of the solution.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from npora.check.verdict.evidence import Evidence
from npora.nn.module import Array
from npora.study.edits import inside, parents
from npora.study.trees import number, numbered

STEP = 1e-30  # of a complex step
_SAME = 1e-9  # of the largest value
_PARALLEL = 1 - 1e-13  # a cosine
Function = Callable[..., Any]


class Steps:
    """A forward, of which each step can be held at the value that it had.

    given : its arguments, by name; by : the names of those that gradients are asked of; dy : the upstream gradient
    """

    def __init__(self, forward: Function, given: dict[str, Any], by: Sequence[str], dy: Array) -> None:
        self.given, self.by, self.dy = given, by, dy
        tree = ast.parse(textwrap.dedent(inspect.getsource(forward))).body[0]
        assert isinstance(tree, ast.FunctionDef)
        numbered(tree)
        self.around = parents([node for statement in tree.body for node in ast.walk(statement)])
        self.nodes = {number(node): node for node in ast.walk(tree) if isinstance(node, ast.expr)}
        namespace = {**forward.__globals__, "_step": self._step}
        wrapped = ast.Module([_Wrapped().visit(copy.deepcopy(tree))], [])  # type: ignore[list-item]
        exec(compile(ast.fix_missing_locations(wrapped), "<steps>", "exec"), namespace)
        self.run: Function = namespace[tree.name]
        self.values: dict[int, list[Array]] = {}
        self.latest: dict[int, Array] = {}
        self.held: dict[int, int | None] = {}
        self.recorded, self.at = False, dict[int, int]()
        self.run(**given)
        self.recorded = True

    def _step(self, step: int, value: Any) -> Any:
        """The value of a step, or what it is held at."""
        if not isinstance(value, np.ndarray | np.inexact) or value.dtype.kind not in "fc":
            return value
        if not self.recorded:
            self.values.setdefault(step, []).append(np.array(value))
            return value
        self.latest[step] = np.asarray(value)
        if step not in self.held:
            return value
        k, argument = self.at.get(step, 0), self.held[step]
        self.at[step] = k + 1
        kept = self.values[step][k]
        return kept if argument is None else kept + (self.latest[argument] - self.values[argument][k])

    def gradients(self, held: dict[int, int | None] | None = None) -> dict[str, Array]:
        """The gradient by each input, with some steps held, or, where one has an argument, with the slope 1 by it."""
        self.held = held or {}
        return by_complex_steps(self._run, self.given, self.by, self.dy)

    def _run(self, **given: Any) -> Any:
        self.at = {}
        return self.run(**given)

    def named(self) -> tuple[dict[str, dict[str, Array]], dict[str, dict[str, Array]]]:
        """The shares (1) and the wholes (2) of each input's gradient, by name."""
        right = self.gradients()
        shares, wholes = _Named(right), _Named(right)
        for step in sorted(self.values, key=lambda k: len(self.words(k))):
            share = {name: right[name] - x for name, x in self.gradients({step: None}).items()}
            shares.add(f"the share through {self.words(step)}", share)
            for argument in self.arguments(step):
                whole = self.gradients({step: argument})
                words = f"the gradient with {self.words(step)} taken for {self.words(argument)}"
                wholes.add(words, whole)
                through = {name: right[name] - x for name, x in self.gradients({argument: None}).items()}
                both = {name: whole[name] + share[name] - through[name] for name in whole}
                words = f"the gradient with {self.words(argument)} passed on by {self.words(step)} with the slope 1"
                wholes.add(words, both)
        called: dict[str, dict[int, int | None]] = {}
        for step in self.values:
            if isinstance(node := self.nodes[step], ast.Call):
                called.setdefault(ast.unparse(node.func), {}).update(dict.fromkeys([step], *self.arguments(step)))
        for name, held in called.items():
            if len(held) > 1 and None not in held.values():
                wholes.add(f"the gradient with what is in each {name} taken for it", self.gradients(held))
        return shares.found, wholes.found

    def numbers(self) -> dict[str, Array]:
        """The values of the steps, by their words, simplest first."""
        steps = sorted(self.values, key=lambda k: len(self.words(k)))
        return {f"`{self.text(step)}`": self.values[step][0] for step in steps}

    def arguments(self, step: int) -> Iterator[int]:
        """The steps whose values a step of more than a sum is made of at once, if they broadcast to its shape."""
        node = self.nodes[step]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            return
        for child in ast.iter_child_nodes(node):
            values = self.values.get(number(child), [])
            pairs = list(zip(values, self.values[step], strict=False))
            if pairs and all(_broadcasts(x.shape, y.shape) for x, y in pairs):
                yield number(child)

    def text(self, step: int) -> str:
        return ast.unparse(self.nodes[step]).replace("np.", "")

    def words(self, step: int) -> str:
        """A step as it is written; a name that stands in several places with what is around it."""
        node = self.nodes[step]
        same = sum(self.text(other) == self.text(step) for other in self.values)
        return f"`{self.text(step)}`{inside(self.around.get(id(node))) if same > 1 else ''}"


def factors_of_shares(e: Evidence, shares: Mapping[str, Array], values: Mapping[str, Array]) -> Iterator[str]:
    """A share alone, or one of several, that lacks a factor, or has one too often: a value that the forward had."""
    for share, array in shares.items():
        x = e.spread(array)
        assert x is not None
        for name, value in values.items():
            for y in (e.spread(value), e.spread(value[..., None])):
                if y is None or (np.abs(y - y[0]) <= _SAME * abs(y[0])).all():
                    continue
                for word, z in (("lacks the factor", x / y), ("has the factor", x * y)):
                    often = " once too often" if word.startswith("has") else ""
                    if e.fits(e.came - z, 1):
                        yield f"{share} alone is there, and {word} {name}{often}"
                    if e.fits(e.error + x - z, 1):
                        yield f"{share} {word} {name}{often}"


class _Named:
    """Arrays by name: none that is a multiple of the right gradient, and of those that are multiples the largest."""

    def __init__(self, right: dict[str, Array]) -> None:
        self.right = right
        self.found: dict[str, dict[str, Array]] = {name: {} for name in right}

    def add(self, words: str, arrays: dict[str, Array]) -> None:
        for name, x in arrays.items():
            size = np.linalg.norm(x)
            smallest = _SAME * np.linalg.norm(self.right[name])
            if not np.isfinite(x).all() or size <= smallest or _alike(x, self.right[name]):
                continue
            known = self.found[name]
            same = next((other for other, y in known.items() if _alike(x, y)), None)
            if same is None or size > (1 + _SAME) * np.linalg.norm(known[same]):
                known.pop(same or "", None)
                known[words] = x


def _broadcasts(one: tuple[int, ...], to: tuple[int, ...]) -> bool:
    sizes = zip(one[::-1], to[::-1], strict=False)
    return len(one) <= len(to) and all(size in (1, other) for size, other in sizes)


def _alike(x: Array, y: Array) -> bool:
    """Is the one a multiple of the other?"""
    return bool(abs(np.vdot(x, y)) >= _PARALLEL * np.linalg.norm(x) * np.linalg.norm(y))


class _Wrapped(ast.NodeTransformer):
    """The tree, each of whose steps is told to _step."""

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.Subscript):
            node.value = self.visit(node.value)  # type: ignore[assignment]
            return self.told(node)
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                node.func.value = self.visit(node.func.value)  # type: ignore[assignment]
            node.args = [self.visit(argument) for argument in node.args]  # type: ignore[misc]
            return self.told(node)
        if isinstance(node, ast.expr):
            node = self.generic_visit(node)
            return self.told(node) if isinstance(node, ast.Name | ast.BinOp | ast.UnaryOp) else node
        return self.generic_visit(node)

    def told(self, node: ast.expr) -> ast.expr:
        if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            return node
        return ast.Call(ast.Name("_step", ast.Load()), [ast.Constant(number(node)), node], [])


def by_complex_steps(f: Function, given: dict[str, Any], by: Sequence[str], dy: Array) -> dict[str, Array]:
    """d⟨dy, f⟩ by each of some inputs, element by element."""
    found = {}
    for name in by:
        x = np.asarray(given[name], complex)
        dx = np.empty(x.shape)
        for place in np.ndindex(x.shape):
            moved = x.copy()
            moved[place] += 1j * STEP
            dx[place] = np.vdot(dy, np.imag(f(**{**given, name: moved}))) / STEP
        found[name] = dx
    return found
