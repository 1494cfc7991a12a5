"""A file of lines that grows, whose beginning up to a mark can be found again."""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
from collections.abc import Mapping
from typing import Any

from npora.files.atomic import sync_directory, write_atomically
from npora.files.digest import hash_of

logger = logging.getLogger("npora")


class Journal:
    """Lines are handed to the system as they come, and mark() flushes them to the disk and says how long the file then
    is, and its SHA-256. resume() goes on from a mark: what came later is cut off, and what came before is not touched,
    so that whoever is killed there has lost nothing. No line is ever parsed.

    A mark costs the same however long the file is.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Begin anew. A file of this name is set aside as NAME-1, NAME-2, …"""
        self.path = os.fspath(path)
        if os.path.exists(self.path):
            os.replace(self.path, _free_name(self.path))
        self._open(0, hashlib.sha256())

    @classmethod
    def resume(cls, path: str | os.PathLike[str], before: str | os.PathLike[str], mark: Mapping[str, Any]) -> Journal:
        """Go on with the lines that `before` had at the mark: in that file, or in another of the same lines.

        A file that has changed since, or is gone, is no reason to end a run: the log says so, and what is there stays.
        """
        size = mark.get("bytes") if isinstance(mark, Mapping) else None
        if type(size) is not int or size < 0 or not isinstance(mark.get("sha256"), str):
            raise ValueError(f"{mark!r} is no mark of {os.fspath(path)}: it has bytes and their sha256")
        journal = cls.__new__(cls)
        journal.path = os.fspath(path)
        try:
            sha = hash_of(before, size)
            if sha.hexdigest() != mark["sha256"]:
                logger.warning("%s is not as it was written: what follows is added to it as it is", before)
        except FileNotFoundError:
            logger.warning("there is no %s any more: what was in it is missing", before)
            return cls(path)
        except ValueError as error:
            logger.warning("%s", error)
            size = os.path.getsize(before)
            sha = hash_of(before, size)
        if not (os.path.exists(path) and os.path.samefile(before, path)):
            if os.path.exists(path):
                os.replace(path, _free_name(journal.path))
            with open(before, "rb") as file:
                write_atomically(path, [file.read(size)])
        journal._open(size, sha)
        if size and not journal._ends_a_line():
            journal.write("")
        return journal

    def _open(self, size: int, sha: Any) -> None:
        self.size, self.sha, self._is_torn = size, sha, False
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor: int | None = os.open(self.path, flags, 0o666)
        try:
            os.ftruncate(self._descriptor, size)
            sync_directory(os.path.dirname(os.path.abspath(self.path)))
        except BaseException:
            self.close()
            raise

    def write(self, line: str) -> None:
        """Append a line. Where that fails, the file is cut back to whole lines by whatever is done next."""
        assert self._descriptor is not None, "the journal is closed"
        self._mend()
        text = left = memoryview(line.encode() + b"\n")
        self._is_torn = True
        while left:
            left = left[os.write(self._descriptor, left) :]
        self._is_torn = False
        self.size += len(text)
        self.sha.update(text)

    def mark(self) -> dict[str, Any]:
        """How long the file is, and its digest, once all of it is on the disk."""
        assert self._descriptor is not None, "the journal is closed"
        self._mend()
        os.fsync(self._descriptor)
        return {"bytes": self.size, "sha256": self.sha.hexdigest()}

    def _mend(self) -> None:
        """Cut off what a write that failed has left."""
        if self._is_torn and self._descriptor is not None:
            os.ftruncate(self._descriptor, self.size)
            self._is_torn = False

    def _ends_a_line(self) -> bool:
        with open(self.path, "rb") as file:
            file.seek(self.size - 1)
            return file.read(1) == b"\n"

    def close(self) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.close(descriptor)


def _free_name(path: str) -> str:
    stem, ending = os.path.splitext(path)
    return next(name for i in itertools.count(1) if not os.path.exists(name := f"{stem}-{i}{ending}"))
