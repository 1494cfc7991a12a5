"""The one place that knows of threads: blocks of rows, each on its own, NumPy's BLAS at one thread meanwhile.

NumPy's element-wise loops use one core, and its BLAS divides even small products among all of them, at a cost that on
a busy machine exceeds the product's. Here whole blocks of rows are the unit instead: NumPy releases the interpreter
lock inside its loops and products, so that blocks run side by side. How many threads there are is what BLAS is set to
(OPENBLAS_NUM_THREADS, OMP_NUM_THREADS, threadpoolctl); where its setting cannot be found, there is one.

Every function here gives what its plain form gives: `matmul(x, W)` is x @ W, `by_rows(f, x)` is f(x).
"""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import functools
import glob
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from npora.nn.module import Array

BLOCK = 1 << 15  # elements: a block of this size and its temporaries stay in the second-level cache
_LEAST = 1 << 18  # multiplications below which a product is not divided, by OpenBLAS either
_inside = threading.local()


def num_threads() -> int:
    """How many threads blocks are spread over: as many as BLAS would use."""
    blas = _blas()
    return 1 if blas is None or getattr(_inside, "busy", False) else int(blas[0]())


def in_blocks(rows: int, at_once: int, work: Callable[[slice], None]) -> None:
    """work(slice) for each block of at most `at_once` of the rows, in any order, on all threads."""
    blocks = iter([slice(start, min(start + at_once, rows)) for start in range(0, rows, at_once)])
    lock = threading.Lock()

    def run() -> None:
        while True:
            with lock:
                block = next(blocks, None)
            if block is None:
                return
            work(block)

    others = min(num_threads(), -(-rows // at_once)) - 1
    if others < 1:
        return run()
    with _one_blas_thread():
        # Each thread runs in a copy of this one's context, which holds np.errstate.
        waiting = [_pool().submit(contextvars.copy_context().run, _nested, run) for _ in range(others)]
        try:
            _nested(run)
        finally:
            errors = [future.exception() for future in waiting]
    for error in errors:
        if error is not None:
            raise error


def by_rows(function: Callable[..., Any], *arrays: Array) -> Any:
    """function(*arrays), for a function that treats each row (the last axis) alone, block by block.

    The arrays share their leading axes. The function returns an array, or a tuple of arrays, with the same ones.
    """
    lead, width = arrays[0].shape[:-1], max(array.shape[-1] for array in arrays)
    n, at_once = int(np.prod(lead)), max(BLOCK // max(width, 1), 1)
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


def _blockwise(function: Callable[..., Any], arrays: list[Array], at_once: int) -> Any:
    """function(*arrays), block by block along the first axis."""
    n = len(arrays[0])
    first = function(*(array[:at_once] for array in arrays))
    parts = first if isinstance(first, tuple) else (first,)
    results = tuple(np.empty((n, *part.shape[1:]), part.dtype) for part in parts)
    for result, part in zip(results, parts, strict=True):
        result[:at_once] = part

    def work(block: slice) -> None:
        block = slice(block.start + at_once, block.stop + at_once)
        found = function(*(array[block] for array in arrays))
        for result, part in zip(results, found if isinstance(first, tuple) else (found,), strict=True):
            result[block] = part

    in_blocks(n - at_once, at_once, work)
    return results if isinstance(first, tuple) else results[0]


def matmul(x: Array, W: Array, plus: Array | None = None) -> Array:
    """x W, and `plus` added to each row.    x [...,i]  W [i,o]  →  y [...,o]

    Each thread takes some of the rows, or of the columns where there are few rows.
    """
    n, (i, o), threads = int(np.prod(x.shape[:-1])), W.shape, num_threads()
    if threads == 1 or n * i * o < _LEAST:
        y = x @ W  # [...,o]
        if plus is not None:
            y += plus
        return y
    flat = x.reshape(n, i)  # [...,i] → [n,i]
    y = np.empty((n, o), np.result_type(x, W))
    by_column = n < 16 * threads

    def work(block: slice) -> None:
        every = slice(None)
        rows, columns = (every, block) if by_column else (block, every)
        np.matmul(flat[rows], W[:, columns], out=y[rows, columns])
        if plus is not None:
            y[rows, columns] += plus[columns]

    divided = o if by_column else n
    in_blocks(divided, -(-divided // threads), work)
    return y.reshape(*x.shape[:-1], o)  # [n,o] → [...,o]


def _nested(run: Callable[[], None]) -> None:
    """Run with threads off, so that a block's own work is not divided again."""
    before = getattr(_inside, "busy", False)
    _inside.busy = True
    try:
        run()
    finally:
        _inside.busy = before


@functools.cache
def _blas() -> tuple[Callable[[], int], Callable[[int], None]] | None:
    """How to ask and to set the number of threads of the OpenBLAS that NumPy's wheels bring along."""
    folder = os.path.join(os.path.dirname(np.__file__), os.pardir, "numpy.libs")
    inside = os.path.join(os.path.dirname(np.__file__), ".dylibs")
    for path in [*glob.glob(os.path.join(folder, "*openblas*")), *glob.glob(os.path.join(inside, "*openblas*"))]:
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(path)
            return library.scipy_openblas_get_num_threads64_, library.scipy_openblas_set_num_threads64_
    return None


@contextlib.contextmanager
def _one_blas_thread() -> Iterator[None]:
    blas = _blas()
    if blas is None:
        yield
        return
    ask, set_threads = blas
    before = ask()
    set_threads(1)
    try:
        yield
    finally:
        set_threads(before)


_executor: ThreadPoolExecutor | None = None


def _pool() -> ThreadPoolExecutor:
    global _executor
    if _executor is None:
        _executor = ThreadPoolExecutor(max_workers=max(os.cpu_count() or 1, num_threads()), thread_name_prefix="npora")
    return _executor


def _forget_pool() -> None:
    """In a forked child the threads are gone."""
    global _executor
    _executor = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
