"""Files that are mapped into memory."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from npora.machine.stored import bits_of


def let_go(matrix: Any) -> bool:
    """Say whether a matrix is a map of a file, and give back the memory that it took when it was read: it is read again
    when it is asked for. Some systems have no way to give it back."""
    owner: Any = bits_of(matrix)
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if not isinstance(owner, mmap.mmap):
        return False
    if hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)
    return True
