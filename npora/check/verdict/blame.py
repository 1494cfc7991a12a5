"""Whose pullback is wrong: the deepest module inside a model that fails on its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from npora.check.subject import Bench, Subject
from npora.check.trees import parts, with_leaves
from npora.check.verdict.comparison import WRONG
from npora.check.verdict.report import Report
from npora.nn import Module

Call = tuple[Module, tuple[Any, ...], dict[str, Any]]


def culprit(subject: Subject, check: Callable[..., Report]) -> str:
    """Run the forward once, keep every module's own inputs, and check each module alone, the innermost first.

    check : gradcheck, with what it is to be called with

    A module that fails while everything inside it passes has the wrong line in its own backward.
    """
    if not isinstance(subject.layer, Module):
        return f"blame: {subject} is a function, with no modules inside"
    bench = subject.at(np.float64)
    tried = 0
    for path, (module, inputs, keywords) in sorted(_calls(bench), key=lambda item: -_depth(item[0])):
        try:
            report = check(module, *inputs, randomize=False, **keywords)
        except TypeError:  # it has nothing to differentiate by, or does not return one pullback
            continue
        except ValueError as error:
            if any(parts(value) is not None for value in inputs):  # structures that only the caller takes apart
                continue
            return f"blame: {_called(path, module)}: {error}"
        tried += 1
        wrong = [row for row in report.rows if row.verdict in WRONG]
        if wrong:
            why = "; ".join(f"{row.name}: {row.note}" for row in wrong[:3])
            return f"blame: {_called(path, module)} fails on its own inputs, and nothing inside it does ({why})"
    return f"blame: each of {tried} modules passes alone: what is wrong is how they are put together in {subject}"


def _calls(bench: Bench) -> list[tuple[str, Call]]:
    """Each module inside, by its path, with what it is called with; a module that stands for another framework's knows
    its own."""
    inside = getattr(bench.layer, "calls_inside", None)
    if inside is not None:
        found: list[tuple[str, Call]] = inside(bench.inputs, bench.keywords)
        return found
    with _recorded() as calls:
        bench.forward()
    paths = {id(module): path for path, module in bench.layer.named_modules()}
    return [(paths[id(call[0])], call) for call in calls if id(call[0]) in paths]


def _called(path: str, module: Module) -> str:
    return f"{path or 'the model itself'} ({getattr(module, '__name__', type(module).__name__)})"


def _depth(path: str) -> int:
    return path.count(".") + 1 if path else 0


@contextmanager
def _recorded() -> Iterator[list[Call]]:
    """Every module's first call within the block: the module, and copies of its arguments as they were."""
    calls: dict[int, Call] = {}
    original = Module.__call__

    def recording(self: Module, *inputs: Any, **keywords: Any) -> Any:
        if id(self) not in calls:
            calls[id(self)] = (self, _held(inputs), _held(keywords))
        return original(self, *inputs, **keywords)

    Module.__call__ = recording  # type: ignore[method-assign]
    try:
        recorded: list[Call] = []
        yield recorded
        recorded.extend(calls.values())
    finally:
        Module.__call__ = original  # type: ignore[method-assign]


def _held(given: Any) -> Any:
    return with_leaves(given, lambda _, x: copy.deepcopy(x) if isinstance(x, np.ndarray | np.random.Generator) else x)
