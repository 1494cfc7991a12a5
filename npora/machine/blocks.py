"""A matrix in blocks that fit the cache, so that a chain of operations reads memory once, and not once each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

BLOCK = 1 << 16  # elements: a block of this size and its temporaries stay in the second-level cache


def blocks_of(matrix: Any) -> Iterator[tuple[slice, slice]]:
    """Yield (rows, columns) of the blocks of a matrix, as they follow each other in memory: each block is some rows, or
    some columns where a column's numbers lie together."""
    by_columns = matrix.strides[0] < matrix.strides[1]
    length, width = matrix.shape[::-1] if by_columns else matrix.shape
    at_once = max(BLOCK // max(1, width), 1)
    for start in range(0, length, at_once):
        some, whole = slice(start, start + at_once), slice(None)
        yield (whole, some) if by_columns else (some, whole)
