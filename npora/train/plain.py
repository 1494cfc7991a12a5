"""Values in a form that JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """The value in a form that JSON can hold: NumPy's numbers and arrays as Python's; what JSON lacks, as nan and inf,
    as strings; half of a pair of surrogates, as in the name of a file that is no UTF-8, as its escape."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {plain(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value if value is None or isinstance(value, bool | int | float) else plain(str(value))


def unplain(value: Any) -> Any:
    """What plain() made of nan and inf, as the floats that they were."""
    if isinstance(value, dict):
        return {key: unplain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unplain(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value
