"""Real checkpoints and data sets, which are not part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def data(*parts: str) -> Path:
    """A path below the folder that NPORA_DATA names, else ../shared/data; skips the test where it is not there."""
    root = Path(os.environ.get("NPORA_DATA", Path(__file__).parents[2] / "shared" / "data"))
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {'/'.join(parts)} in the folder that NPORA_DATA names")
    return path
