"""Values in a form that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """The value in a form that JSON can hold: NumPy's numbers and arrays as Python's; what JSON lacks, as nan and inf,
    as strings."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def unplain(value: Any) -> Any:
    """What plain() made of nan and inf, as the floats that they were."""
    if isinstance(value, dict):
        return {key: unplain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unplain(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value
