"""The product with a stored matrix, of which a few tiles at a time are floats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.machine.blas import on_one_thread
from npora.machine.stored import Stored
from npora.machine.threads import in_parallel

_Array = npt.NDArray[Any]

# As of any product, what decides where it is cut are sizes alone. A tile of the most columns and rows is a megabyte.
_WIDEST, _NARROWEST, _DEEPEST = 256, 64, 1024
# Of a tile that one row is multiplied by: between its few operations two threads wait for the interpreter in turn, so
# larger ones that leave the cache are quicker.
_OF_A_ROW = 1 << 19
_STEP = 16  # a BLAS's innermost loop takes as many rows or columns at a time, or a divisor of it
_READING = 32  # to widen an element and read it takes as long as so many multiplications
_LEAST = 12_000_000  # of work that is divided among threads


def tiled_product(a: _Array, W: Stored) -> _Array:
    """y = a W, in the same bits for any number of threads.    a [n,i]  W [i,o]  →  y [n,o]

    A piece of work is some columns of the result: it widens a tile of W, multiplies, and adds the next tile's product
    to that. So each tile is widened once, and no sum goes through two threads. One row is multiplied by whole columns,
    as W itself says.
    """
    (n, i), o = a.shape, W.shape[1]
    y = np.empty((n, o), np.result_type(a, W.dtype))
    deep, wide = W.grain
    depths = _cut(i, _DEEPEST, deep)
    if n == 1:
        most = max(_OF_A_ROW // (i + 1), _NARROWEST)
    else:
        most = min(max(o // 4, _NARROWEST), _WIDEST)

    def fill(columns: slice) -> None:
        np.matmul(a[:, depths[0]], W[depths[0], columns], y[:, columns])
        for depth in depths[1:]:
            y[:, columns] += a[:, depth] @ W[depth, columns]

    def fill_row(columns: slice) -> None:
        y[:, columns] = W.of_row(a, slice(0, i), columns)

    tasks = [partial(fill_row if n == 1 else fill, columns) for columns in _cut(o, most, wide)]
    if i * o * (n + _READING) >= _LEAST:
        in_parallel(tasks)
    else:
        with on_one_thread():
            for task in tasks:
                task()
    return y


def _cut(width: int, most: int, grain: int) -> Sequence[slice]:
    """Cut an axis into parts that are equal up to a step: at least one part, of at most about `most`, and whole grains
    but for the last."""
    parts, step = max(-(-width // most), 1), math.lcm(_STEP, grain)
    size = max(-(-width // parts // step) * step, step)
    return [slice(start, min(start + size, width)) for start in range(0, max(width, 1), size)]
