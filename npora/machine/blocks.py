"""Element-wise work in blocks that fit the cache: a chain of operations reads memory once, and not once each.

It is done on one thread. The loops of NumPy let others run meanwhile, but a block's take some microseconds each, and
handing the interpreter over in between takes as long again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import numpy as np

_Result = TypeVar("_Result")
BLOCK = 1 << 16  # elements: a block of this size and its temporaries stay in the second-level cache


def by_rows(formula: Callable[..., _Result], *arrays: Any) -> _Result:
    """formula(*arrays), a block of rows at a time.    arrays [...,·]  →  an array [...,·], or a tuple of them

    The formula treats each row (the last axis) alone, so that the values are those of formula(*arrays). The arrays
    share their leading axes, and so do its results.
    """
    leading = arrays[0].shape[:-1]
    n = math.prod(leading)
    at_once = max(BLOCK // max(1, *(array.shape[-1] if array.ndim else 1 for array in arrays)), 1)
    if n <= at_once:
        return formula(*arrays)
    rows = [array.reshape(n, array.shape[-1]) for array in arrays]  # [...,d] → [n,d]
    results: list[Any] = []
    block: Any = None
    for start in range(0, n, at_once):
        block = formula(*(row[start : start + at_once] for row in rows))
        parts = block if isinstance(block, tuple) else (block,)
        results = results or [np.empty((n, part.shape[1]), part.dtype) for part in parts]
        for result, part in zip(results, parts, strict=True):
            result[start : start + at_once] = part
    whole: Any = tuple(result.reshape(*leading, result.shape[1]) for result in results)  # [n,d] → [...,d]
    return cast(_Result, whole if isinstance(block, tuple) else whole[0])


def blocks_of(matrix: Any) -> Iterator[tuple[slice, slice]]:
    """(rows, columns) of the blocks of a matrix, as they follow each other in memory: some rows each, or some columns
    where it is these that lie together."""
    by_columns = matrix.strides[0] < matrix.strides[1]
    length, width = matrix.shape[::-1] if by_columns else matrix.shape
    at_once = max(BLOCK // max(1, width), 1)
    for start in range(0, length, at_once):
        some, whole = slice(start, start + at_once), slice(None)
        yield (whole, some) if by_columns else (some, whole)
