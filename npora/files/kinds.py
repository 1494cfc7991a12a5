"""Whether a value that a file holds is of the kind that a field has, by the field's annotation as it is written."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

_CALLED = {
    "int": "a whole number", "float": "a number", "bool": "True or False", "str": "a string", "None": "None",
}  # fmt: skip
_SEVERAL = {"int": "whole numbers", "float": "numbers", "bool": "True or False", "str": "strings"}
_PARTS = re.compile(r"(\w+)\[(.*)\]")


def is_of_kind(value: Any, annotation: str) -> bool:
    """annotation : int, float, bool, str, None, list[…], dict[…, …], alternatives of these, or what is not checked. A
    bool is no number, and a number is finite. Of a dict the values are checked; its keys are strings in JSON."""
    return any(_is(value, kind.strip()) for kind in annotation.split("|"))


def called(annotation: str) -> str:
    """What to say that was expected: "a list of strings, a string or None"."""
    names = [_name(kind.strip()) for kind in annotation.split("|")]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _is(value: Any, kind: str) -> bool:
    if kind == "None":
        return value is None
    if kind in ("bool", "str"):
        return isinstance(value, bool if kind == "bool" else str)
    if kind == "int":
        return isinstance(value, Integral) and not isinstance(value, bool) and abs(int(value)) < 2**63
    if kind == "float":
        return isinstance(value, Real) and not isinstance(value, bool) and _is_finite(value)
    if (found := _PARTS.fullmatch(kind)) is None:
        return True
    outer, inner = found[1], found[2]
    if outer == "list":
        return isinstance(value, list | tuple | set | frozenset | range) and all(_is(item, inner) for item in value)
    if outer == "dict":
        return isinstance(value, Mapping) and all(_is(item, inner.split(", ")[1]) for item in value.values())
    return True


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _name(kind: str) -> str:
    if kind in _CALLED:
        return _CALLED[kind]
    if found := _PARTS.fullmatch(kind):
        inner = found[2].split(", ")[-1]
        return ("a list of " if found[1] == "list" else "an object of ") + _SEVERAL.get(inner, "values")
    return kind
