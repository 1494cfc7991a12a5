"""The matrix product, in blocks on threads of npora's own."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.machine.blas import on_one_thread
from npora.machine.stored import Stored
from npora.machine.threads import in_parallel, is_inside
from npora.machine.tiles import tiled_product

_Array = npt.NDArray[Any]

# What decides where a product is cut must be the same on every machine: its sizes and their order in memory alone. Work
# is counted in multiplications, of which a core does some 70,000 in a microsecond.
_READING = 16  # reading an element takes as long as so many
_LEAST = 6_000_000  # in one of two blocks
_LEAST_OF_MANY = 20_000_000
_MOST_BLOCKS = 8
_NARROWEST = 128  # a narrower block spends its time in reading the other factor
_TILE = 16  # of its rows or columns a BLAS's innermost loop takes as many at a time, or a divisor of it
# So long another thread takes to begin, and the caller to be woken where it has to wait for that one: the block of the
# caller, the first, is larger by as much, so that the other thread is the first to end.
_WAKING = 7_000_000
_TINY = 1 << 13  # OpenBLAS keeps such a product on one thread anyway


def product(a: _Array, b: _Array | Stored) -> _Array:
    """y = a b, in the same bits for any number of threads.    a [n,i]  b [i,o]  →  y [n,o]

    The longer of the result's axes is cut, so that a block reads the smaller factor whole and its own part of the
    larger. One row's time is that of reading b: then b is cut along whichever of its axes it is stored, and where that
    is i the parts are summed in their order. Inside other work that is cut already, the product is one block. A stored
    b is widened tile by tile.
    """
    if isinstance(b, Stored):
        return tiled_product(a, b)
    (n, i), o = a.shape, b.shape[1]
    if n * i * o <= _TINY or is_inside():
        return a @ b
    summed = n == 1 and b.flags.c_contiguous
    parts = _parts(i * (n * o + _READING * (n + o)), i if summed else max(n, o))
    if len(parts) == 1:
        with on_one_thread():
            return a @ b
    if summed:
        y, *others = in_parallel([partial(np.dot, a[:, part], b[part]) for part in parts])
        for other in others:
            y += other
        return y
    y = np.empty((n, o), np.result_type(a, b))
    if n == 1 and b.flags.f_contiguous:  # of up to 500 results np.matmul would not let go of the interpreter
        in_parallel([partial(np.dot, a, b[:, part], y[:, part]) for part in parts])
    elif o >= n:
        in_parallel([partial(np.matmul, a, b[:, part], y[:, part]) for part in parts])
    else:
        in_parallel([partial(np.matmul, a[part], b, y[part]) for part in parts])
    return y


@functools.cache
def _parts(work: int, width: int) -> Sequence[slice]:
    """Return the parts that an axis of this width is cut into."""
    blocks, least = 1, _LEAST
    while 2 * blocks <= min(_MOST_BLOCKS, work // least, width // _NARROWEST):
        blocks, least = 2 * blocks, _LEAST_OF_MANY
    ahead = width * _WAKING // work if blocks > 1 else 0
    inner = (ahead + (width - ahead) * block // blocks for block in range(1, blocks))
    edges = [0, *(edge // _TILE * _TILE for edge in inner), width]
    return [slice(*pair) for pair in itertools.pairwise(edges)]
