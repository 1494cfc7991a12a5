"""What a wrong gradient may be explained by: the layer's own constants, sizes, arrays and masks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from npora.check.verdict.diagnosis import Context
from npora.nn import Module
from npora.nn.module import Array


def context_of(
    layer: Any,
    arrays: Mapping[str, Array],
    inputs: Iterable[str],
    keywords: Mapping[str, Any],
    dy: tuple[Array, ...],
    gradients: Mapping[str, Array],
    name: str,
) -> Context:
    """For the gradient `name`: α/r, N and the like by their attributes, and the arrays that a term may consist of.

    arrays : the values of the inputs (their names in `inputs`) and of the parameters
    """
    factors: dict[str, float] = {}
    heads = 1
    modules = list(layer.modules()) if isinstance(layer, Module) else []
    for module in modules:
        for adapter in getattr(module, "adapters", {}).values():
            factors |= adapter.factors()
        count = getattr(module, "num_heads", None) or getattr(module, "heads", None)
        if isinstance(count, int):
            heads = count
        p = getattr(module, "p", 0.0)
        if isinstance(p, float) and 0 < p < 1:
            factors["1 − p of dropout"] = 1 - p
    widest = max(dy, key=lambda w: w.size)
    if widest.ndim > 1:
        factors["N, the number of rows"] = float(math.prod(widest.shape[:-1]))
    first = next((arrays[key] for key in inputs), None)
    if first is not None:
        if first.ndim:
            factors["d, the last axis of the input"] = float(first.shape[-1])
            if heads > 1:
                factors["d, the width of a head"] = first.shape[-1] / heads
            factors.setdefault("N, the number of rows", float(math.prod(first.shape[:-1])))
        factors["the number of elements"] = float(first.size)
    terms = dict(arrays)
    hidden = {}
    for key, value in keywords.items():
        if isinstance(value, int | float) and value not in (0, 1) and math.isfinite(value):
            factors[key] = float(value)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            terms[key] = value
        if isinstance(value, np.ndarray) and value.dtype == bool:
            hidden[key] = ~value
        elif isinstance(value, np.ndarray) and value.dtype.kind == "i" and (value < 0).any():
            hidden[key] = value < 0
    if len(dy) == 1:
        terms["dy"] = dy[0]
    terms["a constant"] = np.ones(arrays[name].shape)
    others = {key: value for key, value in gradients.items() if key != name}
    return Context(factors, terms, others, heads, hidden)
