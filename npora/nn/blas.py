"""The one place that knows of BLAS's own threads: how many it has, and that for a while one shall do.

NumPy has no word for it. OpenBLAS, which its wheels for Linux bring, is asked through ctypes; of another library, or
where the symbols cannot be found, nothing is known and nothing is changed.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy  # noqa: F401  (it loads the BLAS that is asked)

_lock = threading.Lock()
_before: list[int] = []  # for each block that has not ended, the number to go back to
_NAMES = "scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads"


def number_of_threads() -> int | None:
    """Of a matrix product; None where it is not known."""
    library = _functions()
    return library and int(library[0]())


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Within this block each matrix product stays on the thread that asks for it, so that several may ask at once.

    It holds for the whole process. Blocks may overlap: the last to end gives back what the first one found. (An
    OpenBLAS that was built with OpenMP has a number for each thread, and heeds that of the caller alone.)
    """
    library = _functions()
    if library is None:
        yield
        return
    get, set_to = library
    with _lock:
        _before.append(get() if not _before else _before[0])
        set_to(1)
    try:
        yield
    finally:
        with _lock:
            before = _before.pop()
            if not _before:
                set_to(before)


@functools.cache
def _functions() -> tuple[Any, Any] | None:
    try:
        library = ctypes.CDLL(sys.modules["numpy._core._multiarray_umath"].__file__)
    except OSError:
        return None
    for name in _NAMES:
        if hasattr(library, name.format("get")):
            return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return None
