"""Whether a file can be written, asked before the work whose result it is to hold."""

from __future__ import annotations

import os


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise OSError where `path` cannot be written to. A file that is there stays as it is, and none is left behind."""
    existed = os.path.lexists(path)
    with open(path, "ab"):
        pass
    if not existed:
        os.unlink(path)
