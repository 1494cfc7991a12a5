"""Opening a file whose content others made: a regular one, of a size that its kind may have."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO


def open_regular(path: str | os.PathLike[str], most_bytes: int | None = None) -> BinaryIO:
    """The file, open for reading. A pipe or a device, which may never end or never begin, is not waited for.

    Raises
    ------
    FileNotFoundError, PermissionError, IsADirectoryError; OSError: no regular file.  ValueError: more than most_bytes.
    """
    name = os.fspath(path)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {name}") from None
    except ValueError:  # a NUL in the name
        raise FileNotFoundError(f"there is no file {name!r}, and none can have this name") from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(f"{name} is a directory; a file was expected")
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{name} is a pipe, a socket or a device; a regular file was expected")
        if most_bytes is not None and status.st_size > most_bytes:
            raise ValueError(f"{name} has {status.st_size:,} bytes; at most {most_bytes:,} are read")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str], most_bytes: int) -> bytes:
    """The bytes of a file. Raises as open_regular, and ValueError where it grows while it is read."""
    with open_regular(path, most_bytes) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(size + 1)  # of as much as may be read, memory would be taken before
    if len(content) > size:
        raise ValueError(f"{os.fspath(path)} has grown beyond its {size:,} bytes while it was read")
    return content
