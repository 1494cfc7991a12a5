"""Work in blocks that fit the cache, so that a chain of operations reads memory once, and not once each."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_WithPullback = Callable[[_Array], tuple[_Array, Callable[[_Array], _Array]]]
BLOCK = 1 << 16  # elements: a block of this size and its temporaries stay in the second-level cache


def in_blocks(function: _WithPullback) -> _WithPullback:
    """Let an element-wise y, backward = function(x) take a large x block by block, for the same values in less time."""

    @functools.wraps(function)
    def block_by_block(x: _Array) -> tuple[_Array, Callable[[_Array], _Array]]:
        if x.size <= BLOCK:
            return function(x)
        shape, flat, backs = x.shape, x.reshape(-1), []
        size, dtype = x.size, np.result_type(x, 1.0)
        blocks = [slice(start, start + BLOCK) for start in range(0, size, BLOCK)]
        y = np.empty(size, dtype)
        for block in blocks:
            y[block], back = function(flat[block])
            backs.append(back)

        def backward(dy: _Array) -> _Array:
            dx, dy = np.empty(size, dtype), dy.reshape(-1)
            for block, back in zip(blocks, backs, strict=True):
                dx[block] = back(dy[block])
            return dx.reshape(shape)

        return y.reshape(shape), backward

    return block_by_block


def overwritten(function: np.ufunc, x: _Array) -> _Array:
    """Return function(x) of each element, written over x, which nobody reads any more: where a vocabulary is large, an
    array of its width more or less counts."""
    return np.asarray(function(x, out=x))


def blocks_of(matrix: Any) -> Iterator[tuple[slice, slice]]:
    """Yield (rows, columns) of the blocks of a matrix, as they follow each other in memory: each block is some rows, or
    some columns where a column's numbers lie together."""
    by_columns = matrix.strides[0] < matrix.strides[1]
    length, width = matrix.shape[::-1] if by_columns else matrix.shape
    at_once = max(BLOCK // max(1, width), 1)
    for start in range(0, length, at_once):
        some, whole = slice(start, start + at_once), slice(None)
        yield (whole, some) if by_columns else (some, whole)
