"""Planting a known error in a copy of a layer, to see what a checker makes of it."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from npora.check.planted.kinds import KINDS, Kind
from npora.check.planted.scene import Scene
from npora.check.subject import Subject, arguments_of
from npora.check.trees import at, replaced
from npora.check.verdict.context import context_of
from npora.nn import Module


class NotApplicable(Exception):
    """This kind of error cannot be planted in this gradient."""


def plantings(
    kind: str, layer: Any, inputs: tuple[Any, ...], keywords: dict[str, Any], targets: Iterable[str] | None = None
) -> Iterator[tuple[str, Any]]:
    """(target, broken copy) for every gradient that this kind can be planted in, or of those of `targets`, in their
    order."""
    for target in Subject(layer, inputs, keywords).point if targets is None else targets:
        subject = Subject(planted(layer, kind, target), inputs, keywords, randomize=np.random.default_rng(0))
        bench = subject.at(np.float64)
        outputs, backward = bench.forward()
        rng = np.random.default_rng(1)
        dy = tuple(np.asarray(rng.standard_normal(y.shape)) for y in outputs)
        for w in dy:
            w.flags.writeable = False
        try:
            bench.gradients(backward, dy)
        except NotApplicable:
            continue
        except ValueError as error:
            if "read-only" not in str(error):
                raise
        yield target, planted(layer, kind, target)


def planted(layer: Any, kind: str, target: str) -> Any:
    """A copy of a Module or function with an error of this kind in the gradient named `target`.

    Its backward raises NotApplicable where the kind does not apply to this gradient, or would change nothing.

    Raises
    ------
    ValueError: there is no such kind; lists those that there are.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind of error {kind!r}; there are {', '.join(KINDS)}")
    error, state = KINDS[kind], {"forwards": 0}
    if isinstance(layer, Module):
        broken = copy.deepcopy(layer)
        original = type(layer).forward

        def forward(self: Any, *inputs: Any, **keywords: Any) -> Any:
            y, backward = original(self, *inputs, **keywords)
            return y, _broken(error, state, target, self, inputs, keywords, backward)

        vars(forward)["__signature__"] = inspect.signature(original)
        broken.__class__ = type(type(layer).__name__, (type(layer),), {"forward": forward})
        return broken

    def function(*inputs: Any, **keywords: Any) -> Any:
        y, backward = layer(*inputs, **keywords)
        return y, _broken(error, state, target, layer, inputs, keywords, backward)

    function.__name__ = layer.__name__
    vars(function)["__signature__"] = inspect.signature(layer)
    return function


def _broken(
    error: Kind, state: dict[str, Any], target: str, layer: Any, inputs: Any, keywords: Any, backward: Any
) -> Callable[..., Any]:
    """The pullback, with the error in what it returns and accumulates."""
    parameters = dict(layer.named_parameters()) if isinstance(layer, Module) else {}
    state["forwards"] += 1
    own = state["forwards"]

    def broken(*dy: Any) -> Any:
        arguments = arguments_of(layer, inputs, keywords, set(parameters))
        before = {name: parameter.grad for name, parameter in parameters.items()}
        for parameter in parameters.values():
            parameter.grad = None
        returned = backward(*dy)
        places = {name: place for name, place in arguments.located(returned).items() if place is not None}
        gradients = {name: at(returned, place) for name, place in places.items()}
        gradients |= {name: p.grad for name, p in parameters.items() if p.grad is not None}
        arrays = {name: at(inputs, path) for name, path in arguments.paths.items()}
        arrays |= {name: p.data for name, p in parameters.items()}
        upstream = tuple(np.asarray(w) for w in dy)
        context = context_of(layer, arrays, places, keywords, upstream, gradients, target)
        state.update(own=own, inputs=set(places))
        scene = Scene(target, gradients, arrays, upstream, context, state)
        applied = target in gradients and error.plant(scene) is not False
        state["applied"] = state.get("applied", False) or applied
        if not state["applied"]:
            raise NotApplicable(target)
        for name, parameter in parameters.items():
            change, previous = gradients.get(name), None if scene.overwrite else before[name]
            parameter.grad = before[name] if change is None else change if previous is None else previous + change
        for name, place in places.items():
            returned = replaced(returned, place, gradients[name])
        return returned

    return broken
