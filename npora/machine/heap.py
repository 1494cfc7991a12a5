"""The one place that knows of the C heap: what one step frees is kept for the next, which needs the same again.

By default glibc returns an array's memory to the kernel when it is freed, and the next one is given out anew, page by
page, each filled with zeros first.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of malloc.h
_KEPT = {
    _M_MMAP_MAX: 0,  # no array outside the heap
    _M_ARENA_MAX: 1,  # nor in a heap of a thread's own, which is given back when it is empty
    _M_TRIM_THRESHOLD: -1,  # whose free end is not given back
}
_DEFAULTS = {_M_MMAP_MAX: 65536, _M_ARENA_MAX: 0, _M_TRIM_THRESHOLD: 128 * 1024}  # glibc's
_lock = threading.RLock()  # a block that was let go of ends when it is collected, maybe within another's
_blocks = 0  # that have not ended


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Within this block the process keeps what it frees, gaps between arrays included; at its end all of that is given
    back, and glibc's defaults hold again. Blocks may lie in each other, or overlap in several threads: the last to end
    gives back. Where the C library is another than glibc nothing is changed.
    """
    global _blocks
    with _lock:
        _blocks += 1
        if _blocks == 1:
            _set(_KEPT)
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1
            if not _blocks:
                _set(_DEFAULTS)
                library = _glibc()
                if library is not None:
                    library.malloc_trim(0)


def _set(options: dict[int, int]) -> None:
    library = _glibc()
    for option, value in options.items() if library is not None else ():
        library.mallopt(option, value)


@functools.cache
def _glibc() -> Any:
    """Return the C library, or None where it is not glibc."""
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
    except OSError:
        return None
