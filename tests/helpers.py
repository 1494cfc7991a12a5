"""What mutants call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np


def but_last(items: Iterable[Any]) -> Iterator[Any]:
    """All but the last; of something endless, all."""
    iterator = iter(items)
    for held in iterator:
        for item in iterator:
            yield held
            held = item


def first_of(items: Iterable[Any]) -> Any:
    """The first term of a sum."""
    return next(iter(items), 0)


def first_along(array: Any, axis: Any, keepdims: Any) -> Any:
    """The first term of a sum over this axis."""
    if axis is None:
        return array.reshape(-1)[:1].sum(keepdims=keepdims)
    axes = axis if isinstance(axis, tuple) else (axis,)
    chosen = array[tuple(slice(1) if n in {a % array.ndim for a in axes} else slice(None) for n in range(array.ndim))]
    return chosen.sum(axis=axis, keepdims=keepdims)


def narrowed(array: Any) -> Any:
    """Rounded to half of its bits, in its own dtype."""
    half = {np.dtype("float64"): "float32", np.dtype("complex128"): "complex64"}.get(getattr(array, "dtype", None))
    return array if half is None else array.astype(half).astype(array.dtype)
