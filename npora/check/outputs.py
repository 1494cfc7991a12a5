"""What a forward returned, and what its backward is then called with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.check.inputs import is_real
from npora.check.trees import leaves, parts, with_leaves
from npora.nn.module import Array

Outputs = tuple[Array, ...]


def is_nested(y: Any) -> bool:
    """Is it a dict of outputs, or a tuple with structures in it?"""
    if hasattr(y, "loss") or hasattr(y, "logits"):
        return False  # a model's output
    return isinstance(y, Mapping) or (isinstance(y, tuple | list) and any(parts(item) is not None for item in y))


def like(y: Any, dy: Outputs) -> Outputs:
    """What backward is called with: one dy for each floating-point output, those of a structure in one like it."""
    if not is_nested(y):
        return dy
    given, items = iter(dy), [y] if isinstance(y, Mapping) else list(y)
    found = [with_leaves(item, lambda _, x: next(given) if _is_output(x) else None) for item in items]
    return tuple(w for w, item in zip(found, items, strict=True) if parts(item) is not None or w is not None)


def _is_output(x: Any) -> bool:
    return is_real(np.asarray(x).dtype) or np.asarray(x).dtype.kind == "c"


def outputs_of(y: Any) -> Outputs:
    """The floating-point arrays in what a forward returned: itself, the items of a tuple or dict, however nested, or a
    model output's loss or else fields. Integers and truth values beside them, as an argmax, have no gradient and get no
    dy."""
    if is_nested(y):
        items = [x for _, x in leaves(y)]
    elif isinstance(y, tuple | list):
        items = list(y)
    elif getattr(y, "loss", None) is not None:
        items = [y.loss]
    elif dataclasses.is_dataclass(y):
        fields = [getattr(y, field.name) for field in dataclasses.fields(y)]
        items = [value for value in fields if value is not None]
    elif hasattr(y, "logits"):  # computed when they are asked for
        items = [y.logits]
    else:
        items = [y]
    arrays = tuple(np.asarray(item) for item in items)
    floating = tuple(array for array in arrays if is_real(array.dtype) or array.dtype.kind == "c")
    if not floating or any(not is_real(array.dtype) and array.dtype.kind not in "ciub" for array in arrays):
        raise TypeError(f"the forward returned {describe(y)}, expected floating-point arrays")
    return floating


def describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}, shape {value.shape}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}: " + ", ".join(type(item).__name__ for item in value)
    return f"a {type(value).__name__}"
