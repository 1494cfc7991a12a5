"""What is done with a row of the catalogue besides its check: its V-curve, and training with planted errors.

A model has many layers. Each kind of error is planted in another of them, and the check of it is of a copy in which all
else is frozen, up to the last parameter: a layer's gradients are right or wrong by themselves.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from npora.catalogue import Drawn
from npora.check import gradcheck, v_curve
from npora.check.planted.kinds import KINDS
from npora.check.planted.planting import NotApplicable, plantings
from npora.check.subject import Subject
from npora.check.verdict.comparison import PASS
from npora.nn import Module
from npora.nn.module import Array

STEPS = 40
_RATES = tuple(2.0**k for k in range(4, -9, -1))
_MANY = 12  # parameters: a layer has fewer


def curve_of(drawn: Drawn) -> dict[str, Any] | None:
    """Error against step size; None where there is no exact derivative to compare with. Of a model by its smallest
    parameter alone, which is `of`."""
    layer, inputs, keywords = drawn
    said = {}
    if _is_model(layer):
        said["of"] = min(layer.named_parameters(), key=lambda named: named[1].size)[0]
        layer = _frozen_but(layer, [said["of"]])
    try:
        curve = v_curve(layer, *inputs, **keywords)
    except ValueError:
        return None
    errors = {name: [_rounded(e) for e in row] for name, row in curve.errors.items()}
    return {"steps": curve.steps, "errors": errors, **said}


def planted(drawn: Drawn) -> dict[str, Any]:
    """What gradcheck says of each kind of error, planted in the first gradient where it can be, and what a training
    run says of it: `loss` is the right gradient's, at the rate that brings it furthest down."""
    layer, inputs, keywords = drawn
    runs = [(losses(drawn, rate), rate) for rate in _RATES]
    right, rate = min(runs, key=lambda run: run[0][-1] if math.isfinite(run[0][-1]) else math.inf)
    errors = list(_errors(layer, inputs, keywords, rate))
    return {"loss": right, "rate": rate, "errors": errors, "by_layer": _is_model(layer)}


def _errors(layer: Any, inputs: Any, keywords: Any, rate: float) -> Iterator[dict[str, Any]]:
    names = _moved(layer, inputs, keywords)
    for k, (kind, error) in enumerate(KINDS.items()):
        # The multiples of the golden section lie as far from each other as they can.
        first = int(len(names) * (k * (math.sqrt(5) - 1) / 2 % 1)) if _is_model(layer) else 0
        for target, broken in plantings(kind, layer, inputs, keywords, [*names[first:], *names[:first]]):
            checked = broken
            if _is_model(layer):
                own = [name for name in names if name.rpartition(".")[0] == target.rpartition(".")[0]]
                checked = _frozen_but(broken, [*own, names[-1]])  # the last tells what is large
            try:
                report = gradcheck(checked, *inputs, **keywords)
            except NotApplicable:  # with what is frozen, as the twin that it would be swapped with
                continue
            wrong = [found for found in report.rows if found.verdict == report.verdict != PASS]
            wrong.sort(key=lambda found: found.name != target)  # what is said of it before what is said besides
            said = next((f"{found.name}: {found.note}" for found in wrong if found.note), "")
            yield {
                "kind": kind, "error": error.says, "in": target, "verdict": report.verdict, "said": said,
                "loss": losses((broken, inputs, keywords), rate),
            }  # fmt: skip
            break


def _moved(layer: Any, inputs: Any, keywords: Any) -> list[str]:
    """The inputs and parameters whose gradient is not zero: a key's bias has none but rounding, right or wrong."""
    bench = Subject(layer, inputs, keywords, randomize=np.random.default_rng(0)).at(np.float64)
    outputs, backward = bench.forward()
    rng = np.random.default_rng(1)
    dy = tuple(np.asarray(rng.standard_normal(y.shape)) for y in outputs)
    sizes = {name: float(np.abs(gradient).max()) for name, gradient in bench.gradients(backward, dy).items()}
    return [name for name, size in sizes.items() if size > 1e-12 * max(sizes.values())]


def _is_model(layer: Any) -> bool:
    return isinstance(layer, Module) and len(list(layer.parameters())) > _MANY


def _frozen_but(model: Module, names: Sequence[str]) -> Module:
    copied = copy.deepcopy(model)
    for name, parameter in copied.named_parameters():
        parameter.requires_grad = name in names
    return copied


def losses(drawn: Drawn, rate: float) -> list[float]:
    """The loss before each of some steps of gradient descent, in float64, on every input and parameter.

        ℓ = ½ mean (y − y*)²,  dy = (y − y*) / (the elements of y)

    y* is y with all of them moved by N(0, 0.3²). Of a layer that gives one number, a loss itself, that is ℓ. The run
    ends where a step or a number is impossible.
    """
    layer, inputs, keywords = drawn
    subject = Subject(layer, inputs, keywords, randomize=np.random.default_rng(0))
    bench, rng, found = subject.at(np.float64), np.random.default_rng(1), list[float]()
    start = {name: value.copy() for name, value in bench.arrays.items()}
    with np.errstate(all="ignore"):
        for value in bench.arrays.values():
            value += 0.3 * rng.standard_normal(value.shape)
        aims = [y.copy() for y in bench.outputs()]
        for name, value in bench.arrays.items():
            value[...] = start[name]
        for _ in range(STEPS):
            subject.held.clear()
            try:
                outputs, backward = bench.forward()
                loss, dy = _loss(outputs, aims)
                found.append(_rounded(loss))
                gradients = bench.gradients(backward, dy)
            except ValueError:  # numbers that the layer refuses, or a write into dy, which is read-only here
                break
            if not math.isfinite(loss):
                break
            for name, gradient in gradients.items():
                bench.arrays[name] -= rate * gradient
    return found + [math.nan] * (STEPS - len(found))


def _loss(outputs: tuple[Array, ...], aims: list[Array]) -> tuple[float, tuple[Array, ...]]:
    if len(outputs) == 1 and outputs[0].size == 1:
        return outputs[0].item(), (np.ones_like(outputs[0]),)
    size = sum(y.size for y in outputs)
    apart = tuple((y - aim) / size for y, aim in zip(outputs, aims, strict=True))
    for dy in apart:
        dy.flags.writeable = False
    return sum(float(np.sum(dy * dy)) for dy in apart) * size / 2, apart


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")
