"""Where npora keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return $NPORA_CACHE, or `npora` in the user's cache folder."""
    if "NPORA_CACHE" in os.environ:
        return Path(os.environ["NPORA_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "npora"
