"""Wrong answers to the exercises: what a student may write, and what must be said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Function = Callable[..., Any]


@dataclass(frozen=True)
class Wrong:
    """exercise, mistake : which and what; says : words that name it, one of which must be said"""

    exercise: str
    mistake: str
    function: Function
    says: tuple[str, ...]


WRONG: list[Wrong] = []


def wrong(exercise: str, mistake: str, function: Function, *says: str) -> None:
    WRONG.append(Wrong(exercise, mistake, function, says))


def soft(x: Any) -> Any:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sigma(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def total(x: Any) -> Any:
    return x.sum(axis=-1, keepdims=True)


def mean(x: Any) -> Any:
    return x.mean(axis=-1, keepdims=True)
