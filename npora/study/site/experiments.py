"""What is done with a row of the catalogue besides its check: its V-curve, and training with planted errors."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from npora.catalogue import Drawn
from npora.check import gradcheck, v_curve
from npora.check.planted.kinds import KINDS
from npora.check.planted.planting import plantings
from npora.check.subject import Subject
from npora.check.verdict.comparison import PASS
from npora.nn.module import Array

STEPS = 40
_RATES = tuple(2.0**k for k in range(4, -9, -1))


def curve_of(drawn: Drawn) -> dict[str, Any] | None:
    """Error against step size; None where there is no exact derivative to compare with."""
    layer, inputs, keywords = drawn
    try:
        curve = v_curve(layer, *inputs, **keywords)
    except ValueError:
        return None
    return {"steps": curve.steps, "errors": {name: [_rounded(e) for e in row] for name, row in curve.errors.items()}}


def planted(drawn: Drawn) -> dict[str, Any]:
    """What gradcheck says of each kind of error, planted in the first gradient where it can be, and what a training
    run says of it: `loss` is the right gradient's, at the rate that brings it furthest down."""
    layer, inputs, keywords = drawn
    runs = [(losses(drawn, rate), rate) for rate in _RATES]
    right, rate = min(runs, key=lambda run: run[0][-1] if math.isfinite(run[0][-1]) else math.inf)
    return {"loss": right, "rate": rate, "errors": list(_errors(layer, inputs, keywords, rate))}


def _errors(layer: Any, inputs: Any, keywords: Any, rate: float) -> Iterator[dict[str, Any]]:
    for kind, error in KINDS.items():
        for target, broken in plantings(kind, layer, inputs, keywords):
            report = gradcheck(broken, *inputs, **keywords)
            wrong = [found for found in report.rows if found.verdict == report.verdict != PASS]
            said = next((f"{found.name}: {found.note}" for found in wrong if found.note), "")
            yield {
                "kind": kind, "error": error.says, "in": target, "verdict": report.verdict, "said": said,
                "loss": losses((broken, inputs, keywords), rate),
            }  # fmt: skip
            break


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
