"""Element-wise work in blocks that fit the cache: a chain of operations reads memory once, and not once each.

It is done on one thread. The loops of NumPy let others run meanwhile, but a block's take some microseconds each, and
handing the interpreter over in between takes as long again.

`by_rows(f, x)` and `element_wise(f, x)` are f(x). `in_blocks(f, x, y)` is f(x, y), for an f that writes into y: a copy
less.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from npora.nn.module import Array

BLOCK = 1 << 16  # elements: a block of this size and its temporaries stay in the second-level cache


def by_rows(function: Callable[..., Any], *arrays: Array) -> Any:
    """function(*arrays), for a function that treats each row (the last axis) alone, block by block.

    The arrays share their leading axes. The function returns an array, or a tuple of arrays, with the same ones.
    """
    lead, width = arrays[0].shape[:-1], max(array.shape[-1] for array in arrays)
    n, at_once = math.prod(lead), max(BLOCK // max(width, 1), 1)
    if n <= at_once:
        return function(*arrays)
    results = _blockwise(function, [array.reshape(n, array.shape[-1]) for array in arrays], at_once)  # [...,d] → [n,d]
    if isinstance(results, tuple):
        return tuple(result.reshape(*lead, result.shape[-1]) for result in results)  # [n,d] → [...,d]
    return results.reshape(*lead, results.shape[-1])


def element_wise(function: Callable[..., Any], *arrays: Array) -> Any:
    """function(*arrays), for an element-wise function of arrays of one shape, block by block."""
    shape = arrays[0].shape
    if arrays[0].size <= BLOCK:
        return function(*arrays)
    results = _blockwise(function, [array.reshape(-1) for array in arrays], BLOCK)
    if isinstance(results, tuple):
        return tuple(result.reshape(shape) for result in results)
    return results.reshape(shape)


def in_blocks(function: Callable[..., None], x: Array, *results: Array) -> None:
    """function(x, *results), for an element-wise function that writes into results of x's shape, block by block.

    results : contiguous
    """
    flat = [array.reshape(-1) for array in (x, *results)]
    for start in range(0, x.size, BLOCK):
        function(*(array[start : start + BLOCK] for array in flat))


def _blockwise(function: Callable[..., Any], arrays: list[Array], at_once: int) -> Any:
    """function(*arrays), block by block along the first axis."""
    n = len(arrays[0])
    first = function(*(array[:at_once] for array in arrays))
    parts = first if isinstance(first, tuple) else (first,)
    results = tuple(np.empty((n, *part.shape[1:]), part.dtype) for part in parts)
    for result, part in zip(results, parts, strict=True):
        result[:at_once] = part

    for start in range(at_once, n, at_once):
        block = slice(start, start + at_once)
        found = function(*(array[block] for array in arrays))
        for result, part in zip(results, found if isinstance(first, tuple) else (found,), strict=True):
            result[block] = part
    return results if isinstance(first, tuple) else results[0]
