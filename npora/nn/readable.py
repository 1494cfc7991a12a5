"""Objects print what they are: one line where that fits, and no dump of their numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

WIDTH = 100  # columns
_FEW = 12  # numbers of an array, or items of a list, that are shown


class Readable:
    """An object prints as Class(name=value, …), of its public attributes or of what `said` yields in their place.

    A dataclass that inherits from this one prints so, too.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if "__repr__" not in vars(cls):
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign]  # or @dataclass would write its own

    def said(self) -> Iterator[str]:
        """Yield what stands between the brackets, item by item."""
        fields = dataclasses.fields(self) if dataclasses.is_dataclass(self) else None
        for name in vars(self) if fields is None else [field.name for field in fields if field.repr]:
            if not name.startswith("_") and hasattr(self, name):
                yield f"{name}={brief(getattr(self, name))}"

    def __repr__(self) -> str:
        return laid_out(type(self).__name__, self.said())


def laid_out(name: str, items: Iterable[str]) -> str:
    """Write name(item, item, …), over as many lines as it takes."""
    lines, rest = [f"{name}("], list(items)
    for place, item in enumerate(rest):
        item += ", " if place + 1 < len(rest) else ")"
        if len(lines[-1]) + len(item.rstrip()) > WIDTH:
            lines.append("  ")
        lines[-1] += item
    return "\n".join(line.rstrip() for line in lines) if rest else f"{name}()"


def named_tuple(value: Any) -> str:
    """Print a NamedTuple; this is to be its __repr__."""
    return laid_out(type(value).__name__, (f"{name}={brief(item)}" for name, item in value._asdict().items()))


def brief(value: object, depth: int = 2) -> str:
    """Describe a value shortly: an array by type and shape unless it has few numbers, a long list by its length."""
    if isinstance(value, float | np.floating):
        return min(str(value), f"{value:.6g}", key=len) if value % 1 else str(value)
    if isinstance(value, np.generic):
        return str(value)
    if isinstance(value, np.ndarray):
        if value.size > _FEW or value.dtype.kind == "O":
            return f"{value.dtype}[{','.join(map(str, value.shape))}]"
        return " ".join(np.array2string(value, precision=4, separator=", ").split()).replace("[ ", "[")
    if isinstance(value, str | bytes):
        text = repr(value)
        return text if len(text) <= 72 else f"{text[:56]}…{text[-12:]}"
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return _collection(value, depth)
    if hasattr(value, "__qualname__"):  # a function or a class
        return str(value.__qualname__)
    text = "" if type(value).__repr__ is object.__repr__ else repr(value)
    short = 0 < len(text) <= 72 and "\n" not in text and " at 0x" not in text
    return text if short else f"{type(value).__name__}(…)"


def _collection(value: Any, depth: int) -> str:
    kind, few = type(value).__name__, len(value) <= _FEW and depth > 0
    if not few:
        return f"{kind} of {len(value)}"
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{brief(key, 0)}: {brief(item, depth - 1)}" for key, item in value.items()) + "}"
    else:
        left, right = "[]" if isinstance(value, list) else "()" if isinstance(value, tuple) else "{}"
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
        text = left + ", ".join(brief(item, depth - 1) for item in items) + comma + right
    return text if len(text) <= 72 else f"{kind} of {len(value)}"
