"""A file is either the old one or the new one, whole, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable
from typing import Any


def write_atomically(path: str | os.PathLike[str], chunks: Iterable[Any]) -> None:
    """Write to a temporary name beside `path`, flush to the disk, and rename.

    The mode of a file that is replaced is kept; a new one gets what the umask allows. On any exception the temporary
    file is removed and the old file is untouched.
    """
    path = os.path.abspath(path)
    temporary = f"{path}.tmp-{os.getpid()}-{secrets.token_hex(4)}"
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else None
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        try:
            if mode is not None:
                os.chmod(temporary, mode)
            for chunk in chunks:
                _write_all(descriptor, memoryview(chunk).cast("B"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path))


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Flush which names a folder has: a file that was flushed is lost with its name, and a rename is one of names."""
    if os.name == "nt":  # Windows cannot open a directory
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
