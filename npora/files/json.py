"""JSON read strictly: what a lenient reader would guess at is an error."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from typing import Any

from npora.files.atomic import write_atomically
from npora.files.refusal import shortened
from npora.files.regular import read_regular

_MOST_BYTES = 1_000_000
_MOST_VALUES = 10_000_000  # a tokenizer.json of 262,144 tokens and 580,000 pairs has 2,000,000
_DEEPEST = 64


def read_json(path: str | os.PathLike[str], most_bytes: int = _MOST_BYTES) -> dict[str, Any]:
    """The object in a JSON file of at most 1 MB, or of most_bytes.

    Raises
    ------
    OSError: no such file, or no regular one.  ValueError: not JSON, not an object, too large, nested too deeply, a key
    that stands twice, NaN, Infinity or a number as large, half of a pair of surrogates.
    """
    return parse_json(read_regular(path, most_bytes), os.fspath(path))


def read_json_list(path: str | os.PathLike[str]) -> list[Any]:
    """The list in a JSON file of at most 1 MB. Raises as read_json."""
    found: list[Any] = _parsed(read_regular(path, _MOST_BYTES), os.fspath(path), list, _MOST_VALUES)
    return found


def parse_json(text: bytes, what: str, most_values: int = _MOST_VALUES) -> dict[str, Any]:
    """The object in a JSON text; `what` names it in the error. A value of one byte takes a hundred in memory: so they
    are counted before any is made."""
    found: dict[str, Any] = _parsed(text, what, dict, most_values)
    return found


def _parsed(text: bytes, what: str, kind: type, most_values: int) -> Any:
    values = text.count(b",") + text.count(b"[") + text.count(b"{")  # or fewer: some may stand in strings
    if values > most_values:
        raise ValueError(f"{what} holds {values:,} values; at most {most_values:,} are read")
    try:
        value = json.loads(text.decode("utf-8"), **STRICT)
        if b"\\ud" in text.lower():
            _refuse_surrogates(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is not valid JSON: {error}") from None
    if not isinstance(value, kind):
        expected = "an object" if kind is dict else "a list"
        raise ValueError(f"{what} holds a JSON {type(value).__name__}; {expected} was expected")
    _refuse_depth(value, what)
    return value


def _refuse_depth(value: Any, what: str) -> None:
    """Raise ValueError for lists and objects so deep in each other that whoever walks them may run out of stack."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            child
            for container in level
            for child in (container.values() if isinstance(container, dict) else container)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise ValueError(f"{what} is nested more than {_DEEPEST} deep")


def _refuse_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise ValueError(f"{half!r} is half of a pair of surrogates, which is no character") from None


def write_json(path: str | os.PathLike[str], value: dict[str, Any] | list[Any], sort_keys: bool = True) -> None:
    """Sorted, unless an order means something, and indented, so that the same content gives the same bytes; written
    atomically."""
    write_atomically(path, [json.dumps(value, indent=2, sort_keys=sort_keys, allow_nan=False).encode()])


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {shortened(twice)} stands twice")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {shortened(text)} is larger than any that can be computed with")
    return value


# How json.loads and json.JSONDecoder read strictly: no key twice, no NaN, no Infinity and nothing that becomes it.
STRICT: dict[str, Any] = {"object_pairs_hook": _once_each, "parse_constant": _no_constant, "parse_float": _finite}
