"""A lock on a folder, which ends with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import sys
import time
from types import TracebackType

logger = logging.getLogger("npora")


class Lock:
    """A file that one process, and one thread of it, holds at a time; it is gone when it is given back.

    The system lets go of it when its holder is killed. Where a child of such a process still has it open, it is taken
    over all the same, once the process that it names is gone.

    Raises
    ------
    RuntimeError: on entering, with who holds it and since when.
    """

    def __init__(self, path: str | os.PathLike[str], what: str) -> None:
        self.path, self.what = os.fspath(path), what
        self._descriptor: int | None = None

    def __enter__(self) -> Lock:
        while self._descriptor is None:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                if self._taken(descriptor):
                    self._descriptor = descriptor
            finally:
                if self._descriptor is None:
                    os.close(descriptor)
        try:
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            os.write(self._descriptor, f"{os.getpid()} {platform.node()} {since}\n".encode())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _taken(self, descriptor: int) -> bool:
        """Whether this is the lock now; False where it is to be tried again."""
        if not _lock(descriptor):
            holder = os.read(descriptor, 1000).decode(errors="replace").split(" ", 2)
            if len(holder) == 3 and holder[1] == platform.node() and not _is_alive(holder[0]):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.path)
                return False
            pid, host, since = [*holder, "", "", ""][:3]
            who = f"process {pid} on {host}, since {since.strip()}" if since else "another process"
            raise RuntimeError(f"{self.what} is in use by {who}: wait for its end, or use another folder")
        try:  # its holder may have taken it away between open and lock
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(OSError):  # Windows removes no open file: an empty lock is no lock
                os.unlink(self.path)
            os.close(descriptor)


def _is_alive(pid: str) -> bool:
    if os.name == "nt" or not pid.isdecimal():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # behind the text, which can then be read
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            logger.warning("this file system has no locks (%s): make sure that no other process writes here", error)
        return True
