"""A file is either the old one or the new one, whole, whatever happens in between."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_held_back: ContextVar[bool] = ContextVar(
    "_held_back", default=False
)  # flushes, by the block that does them at its end


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
            if not _held_back.get():
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
    if os.name != "nt":  # Windows cannot open a directory
        _sync(path, os.O_RDONLY)


@contextmanager
def flushed_once(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Within this block this thread flushes nothing; at its end every file and folder in `directory` is flushed, once.

    It is for a folder that nobody reads before it gets another name: flushes in between would make nothing safer, and
    each waits for the disk.
    """
    token = _held_back.set(True)
    try:
        yield
    finally:
        _held_back.reset(token)
    for folder, _, names in os.walk(directory):
        for name in names:
            _sync(os.path.join(folder, name), os.O_RDWR if os.name == "nt" else os.O_RDONLY)
        sync_directory(folder)


def _sync(path: str | os.PathLike[str], flags: int) -> None:
    if _held_back.get():
        return
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
