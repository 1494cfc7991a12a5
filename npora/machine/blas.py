"""The one place that knows of BLAS's own threads: how many it has, and that for a while one shall do.

NumPy has no word for it. OpenBLAS, which its wheels for Linux bring, is asked through ctypes; of another library, or
where the symbols cannot be found, nothing is known and nothing is changed.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from types import TracebackType
from typing import Any

import numpy  # noqa: F401  (it loads the BLAS that is asked)

_lock = threading.RLock()  # a block that was let go of ends when it is collected, maybe within another's
_held = 0  # blocks of on_one_thread() that have not ended
_of_this_thread = threading.local()  # how many of them are its own
_before = 1  # the number that the last of them gives back
_NAMES = "scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads"


def number_of_threads() -> int | None:
    """Return how many threads a matrix product has outside of on_one_thread(), or None where that is not known."""
    library = _functions()
    if library is None:
        return None
    with _lock:
        return _before if _held else int(library[0]())


class on_one_thread:
    """Within this block each matrix product stays on the thread that asks for it, so that several may ask at once.

    It holds for the whole process. Blocks may overlap: the last to end gives back what the first one found. (An
    OpenBLAS that was built with OpenMP has a number for each thread, and heeds that of the caller alone.)
    """

    def __enter__(self) -> None:
        global _held, _before
        library = _functions()
        if library is None:
            return
        with _lock:
            if not _held:
                _before = int(library[0]())
                library[1](1)
            _held += 1
        _of_this_thread.held = getattr(_of_this_thread, "held", 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _held
        library = _functions()
        if library is None:
            return
        _of_this_thread.held -= 1
        with _lock:
            _held -= 1
            if not _held:
                library[1](_before)


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


def _forget() -> None:
    """A child process has the thread that forked alone: the blocks of the other threads do not end there."""
    global _held, _lock
    _lock = threading.RLock()
    before, _held = _held, getattr(_of_this_thread, "held", 0)
    library = _functions()
    if before and not _held and library is not None:
        library[1](_before)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
