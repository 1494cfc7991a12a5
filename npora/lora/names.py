"""Names: PEFT's enumerations, whose members are strings so that a config holds and writes plain ones, and what fits a
module's path."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import TypeVar

from npora.lora.pattern import fits_the_end, matches

_Value = TypeVar("_Value")


class TaskType(str, Enum):
    """A TaskType says what a model is trained for; a classification task trains the head of its model too."""

    SEQ_CLS = "SEQ_CLS"
    SEQ_2_SEQ_LM = "SEQ_2_SEQ_LM"
    CAUSAL_LM = "CAUSAL_LM"
    TOKEN_CLS = "TOKEN_CLS"
    QUESTION_ANS = "QUESTION_ANS"
    FEATURE_EXTRACTION = "FEATURE_EXTRACTION"


class PeftType(str, Enum):
    """A PeftType names the method of an adapter."""

    LORA = "LORA"
    VERA = "VERA"
    LOHA = "LOHA"
    HIRA = "HIRA"
    IA3 = "IA3"
    LOKR = "LOKR"
    MISS = "MISS"
    FOURIERFT = "FOURIERFT"
    ADALORA = "ADALORA"
    OFT = "OFT"
    HRA = "HRA"
    LN_TUNING = "LN_TUNING"
    ROAD = "ROAD"
    TRAINABLE_TOKENS = "TRAINABLE_TOKENS"


def renamed(by_name: Mapping[str, _Value], old: str, new: str) -> dict[str, _Value]:
    """Return the same, in its order, with another name in the place of one that may be among them."""
    return {new if name == old else name: value for name, value in by_name.items()}


def plain(value: object) -> object:
    """Return the string of an enumeration's member, PEFT's own too; any other value as it is."""
    return value.value if isinstance(value, Enum) else value


def names_match(name: str, path: str) -> bool:
    """Say whether `name` is the path or its last components: `query` fits `layer.0.query`, not `layer.0.my_query`."""
    return path == name or path.endswith("." + name)


def fits_pattern(pattern: str, path: str) -> bool:
    """Say whether a key of rank_pattern or alpha_pattern, a regular expression for a path's end, means this path."""
    return fits_the_end(pattern, path)


def by_pattern(patterns: Mapping[str, _Value], path: str, otherwise: _Value) -> _Value:
    """Return what the first pattern that fits this path gives, as of rank_pattern; `otherwise` where none fits."""
    return next((value for pattern, value in patterns.items() if fits_pattern(pattern, path)), otherwise)


def ends(path: str) -> list[str]:
    """Return a path, and what is left of it behind each of its dots: all names that fit it."""
    parts = path.split(".")
    return [".".join(parts[i:]) for i in range(len(parts))]


def is_named(names: Collection[str] | str, path: str) -> bool:
    """Say whether one of some names, or a regular expression for whole paths, means this path."""
    return matches(names, path) if isinstance(names, str) else any(end in names for end in ends(path))
