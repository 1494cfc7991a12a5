"""A framework that is not installed."""

from __future__ import annotations

import importlib.util


def need(name: str, install: str) -> None:
    """Raise ImportError, with the command to install it, where a framework is missing."""
    if importlib.util.find_spec(name) is None:
        raise ImportError(f"this bridge needs {name}: {install}")
