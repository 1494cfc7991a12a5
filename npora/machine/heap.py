"""The one place that knows of the C heap: what one step frees is kept for the next, which needs the same again.

By default glibc returns an array's memory to the kernel when it is freed, and the next one is given out anew, page by
page, each filled with zeros first.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of malloc.h


@functools.cache
def keep_freed_memory() -> None:
    """From now on, let this process keep what it frees, gaps between arrays included. Only glibc is asked to."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_M_MMAP_MAX, 0)  # no array outside the heap
            mallopt(_M_ARENA_MAX, 1)  # nor in a heap of a thread's own, which is given back when it is empty
            mallopt(_M_TRIM_THRESHOLD, -1)  # whose free end is not given back
