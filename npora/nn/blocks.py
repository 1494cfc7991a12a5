"""Element-wise work in blocks that fit the cache: a chain of operations reads memory once, and not once each.

It is done on one thread. The loops of NumPy let others run meanwhile, but a block's take some microseconds each, and
handing the interpreter over in between takes as long again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from npora.nn.module import Array

BLOCK = 1 << 16  # elements: a block of this size and its temporaries stay in the second-level cache


def empty(x: Array, *others: Array, width: int | None = None) -> Array:
    """To be filled: an array of x's shape, or of a last axis of this width, and of the floating type that arithmetic
    on these arrays gives."""
    shape = x.shape if width is None else (*x.shape[:-1], width)
    return np.empty(shape, np.result_type(np.float16, x, *others))


def in_blocks(function: Callable[..., Any], *arrays: Array) -> None:
    """function(*arrays), which reads some of the arrays and writes into the others, block by block.

    The function treats each row (the last axis) alone. The arrays share their leading axes. Those that it writes into
    must be contiguous, as `empty` makes them: of others it would fill a copy.
    """
    n = math.prod(arrays[0].shape[:-1])
    rows = [array.reshape(n, math.prod(array.shape[-1:])) for array in arrays]  # [...,d] → [n,d]
    widest = max(1, *(row.shape[1] for row in rows))
    at_once = max(BLOCK // widest, 1)
    for start in range(0, n, at_once):
        function(*(row[start : start + at_once] for row in rows))
