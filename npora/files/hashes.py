"""Whether what lies in the hub's cache is what the hub gave: each file against the hash that it is called by there.

In the cache `snapshots/COMMIT/NAME` is a link to `blobs/HASH`, where HASH is the file's SHA-256 where it is large, as
weights are, and else the SHA-1 that git gives it. A file is checked once: that it was is remembered beside the blobs,
by its size and time of change.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from npora.files.atomic import write_atomically
from npora.files.regular import open_regular, read_regular

logger = logging.getLogger("npora")

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CHECKED = ".npora-checked"  # a folder beside blobs, with a file for each that was found whole
_PIECE = 1 << 20  # bytes
_seen: set[str] = set()  # what has been checked, or been said of, by this process


def is_snapshot(directory: str) -> bool:
    """Whether a directory is a model's in the hub's cache."""
    place = Path(directory).absolute()
    return place.parent.name == "snapshots" and (place.parents[1] / "blobs").is_dir()


def check_hashes(snapshot: str, names: Iterable[str]) -> None:
    """Raise ValueError where one of a snapshot's files is not what the hub gave; log where that cannot be known."""
    for name in names:
        path = Path(snapshot, name)
        blob = path.resolve()
        if not (path.is_symlink() and blob.parent.name == "blobs" and _HASH.fullmatch(blob.name)):
            if str(path) not in _seen:
                _seen.add(str(path))
                logger.warning("%s is not checked against the hub's hash, which the cache does not tell", path)
        elif not _is_known(blob):
            logger.info("checking %s against its hash", path)
            found = _hash(blob)
            if found != blob.name:
                raise ValueError(
                    f"{path} is not what the hub gave: its hash there was {blob.name}, and here it is {found}. It was "
                    f"damaged or changed: remove {blob} and load it again"
                )
            _remember(blob)


def _hash(blob: Path) -> str:
    with open_regular(blob) as file:
        is_large = len(blob.name) == 64
        sha = hashlib.sha256() if is_large else hashlib.sha1(usedforsecurity=False)
        if not is_large:
            sha.update(b"blob %d\0" % os.fstat(file.fileno()).st_size)  # as git begins what it hashes
        while piece := file.read(_PIECE):
            sha.update(piece)
    return sha.hexdigest()


def _state(blob: Path) -> str:
    status = blob.stat()
    return f"{blob} {status.st_size} {status.st_mtime_ns}"


def _marker(blob: Path) -> Path:
    return blob.parents[1] / _CHECKED / blob.name


def _is_known(blob: Path) -> bool:
    state = _state(blob)
    with contextlib.suppress(OSError, ValueError):
        return state in _seen or read_regular(_marker(blob), 10_000).decode() == state
    return False


def _remember(blob: Path) -> None:
    _seen.add(_state(blob))
    with contextlib.suppress(OSError):  # a cache that cannot be written to is checked by each process
        _marker(blob).parent.mkdir(exist_ok=True)
        write_atomically(_marker(blob), [_state(blob).encode()])
