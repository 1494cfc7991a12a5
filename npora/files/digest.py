"""SHA-256 of files, however large, in little memory."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from npora.files.regular import open_regular

_PIECE = 1 << 20


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The digest of a whole file."""
    return str(hash_of(path).hexdigest())


def hash_of(path: str | os.PathLike[str], most: int | None = None) -> Any:
    """The hash of a file, or of its first `most` bytes, to go on with. Raises ValueError where it has fewer."""
    sha, left = hashlib.sha256(), most
    with open_regular(path) as file:
        while piece := file.read(_PIECE if left is None else min(_PIECE, left)):
            sha.update(piece)
            left = None if left is None else left - len(piece)
    if left:
        raise ValueError(f"{os.fspath(path)} has {left:,} bytes fewer than the {most:,} that were written to it")
    return sha
