"""Check a pullback against differences and against the dot-product identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npora.check.differences import central_differences
from npora.check.report import Report, Row
from npora.check.subject import Subject, read_only
from npora.nn.module import Array, Module

# 2⁻⁵³ of the sum, over the smaller step of 2⁻¹⁰, is 2⁻⁴³; the function itself may round some tens of times more.
_NOISE = 2.0**-38


def gradcheck(
    layer: Module | Callable[..., tuple[Any, Callable[..., Any]]],
    *inputs: Any,
    seed: int = 0,
    tolerance: float = 1e-8,
    **keywords: Any,
) -> Report:
    """Compare a layer's hand-written pullback with its forward, in float64, for a random upstream gradient dy.

    layer : a Module, or any function that returns `(y, backward)`; it is called as `layer(*inputs, **keywords)` with
        every floating-point input, and every parameter of a copy of the layer, raised to float64. A `rng` among the
        keywords is copied for each call, so that dropout draws the same mask each time.

    With φ(x) = ⟨dy, f(x)⟩ each coordinate of the pullback is compared with ∂φ/∂x by central differences, and each
    whole array with the difference along a random direction v, since ⟨dy, J v⟩ = ⟨Jᵀ dy, v⟩. Frozen parameters must
    come back with their bytes unchanged and without a gradient.

    Returns
    -------
    A Report: true if all is well, and printed a table with the worst coordinate of each input and parameter.
    """
    rng = np.random.default_rng(seed)
    subject = Subject(layer, inputs, keywords)
    point = subject.point
    y, backward = subject.call(point)
    dy = read_only(rng.standard_normal(y.shape))
    analytic = subject.gradients(backward, dy)

    noise = _NOISE * (1 + float(np.abs(dy * y).sum()))

    def phi(changed: dict[str, Array]) -> float:
        return float(np.sum(dy * subject.call({**point, **changed})[0]))

    rows = []
    for name, x in point.items():
        numeric = central_differences(lambda value, name=name: phi({name: value}), x)
        rows.append(
            _compare(name, "differences", analytic[name], numeric, np.abs(numeric).max(initial=0.0), tolerance, noise)
        )
        v = rng.standard_normal(x.shape)
        along = central_differences(lambda t, name=name, x=x, v=v: phi({name: x + t[0] * v}), np.zeros(1))
        product = np.sum(analytic[name] * v, keepdims=True).reshape(1)
        scale = np.linalg.norm(numeric) * np.linalg.norm(v)
        rows.append(_compare(name, "dot product", product, along, scale, tolerance, noise))
    return Report(tuple(rows), seed, tolerance)


def _compare(
    name: str, method: str, analytic: Array, numeric: Array, scale: Any, tolerance: float, noise: float
) -> Row:
    if analytic.shape != numeric.shape:
        raise ValueError(f"the gradient of {name} has shape {analytic.shape}, expected {numeric.shape}")
    if numeric.size == 0:
        return Row(name, numeric.shape, method, "PASS", (), 0.0, 0.0, 0.0)
    difference = np.abs(analytic - numeric)
    at = tuple(int(index) for index in np.unravel_index(difference.argmax(), difference.shape))  # nan counts as largest
    largest = float(difference[at])
    if not largest <= max(tolerance * scale, noise):
        verdict = "FAIL"
    else:
        verdict = "VACUOUS" if scale <= noise else "PASS"
    error = largest / float(scale) if scale else largest
    return Row(name, numeric.shape, method, verdict, at, float(analytic[at]), float(numeric[at]), error)
