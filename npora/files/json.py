"""JSON read strictly: what a lenient reader would guess at is an error."""

from __future__ import annotations

import json
import os
from typing import Any

from npora.files.atomic import write_atomically

_MOST_BYTES = 1_000_000


def read_json(path: str | os.PathLike[str], most_bytes: int = _MOST_BYTES) -> dict[str, Any]:
    """The object in a JSON file of at most 1 MB, or of most_bytes.

    Raises
    ------
    FileNotFoundError; ValueError: not JSON, not an object, too large, a key that stands twice, NaN or Infinity.
    """
    try:
        size = os.path.getsize(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {os.fspath(path)}") from None
    if size > most_bytes:
        raise ValueError(f"{os.fspath(path)} has {size:,} bytes; at most {most_bytes:,} are read")
    with open(path, "rb") as file:
        return parse_json(file.read(), os.fspath(path))


def parse_json(text: bytes, what: str) -> dict[str, Any]:
    """The object in a JSON text; `what` names it in the error."""
    try:
        value = json.loads(text.decode("utf-8"), **STRICT)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{what} holds a JSON {type(value).__name__}; an object was expected")
    return value


def write_json(path: str | os.PathLike[str], value: dict[str, Any]) -> None:
    """Sorted and indented, so that the same content gives the same bytes; written atomically."""
    write_atomically(path, [json.dumps(value, indent=2, sort_keys=True, allow_nan=False).encode()])


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return result


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


# How json.loads and json.JSONDecoder read strictly: no key twice, no NaN and no Infinity.
STRICT: dict[str, Any] = {"object_pairs_hook": _once_each, "parse_constant": _no_constant}
