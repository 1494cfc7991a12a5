"""Which keys a query sees: a rule, from its place in the sequence to the interval of places that it sees."""

from __future__ import annotations

import sys
from typing import NamedTuple, Protocol

from npora.nn.module import Array

Place = int | Array  # one, or many at once


class Rule(Protocol):
    """place ↦ (first, stop): a query there sees the keys of the places from `first` up to, and without, `stop`.

    Attention cuts the interval to the keys that there are, so a rule may reach beyond them on either side.
    """

    def __call__(self, place: Place, /) -> tuple[Place, Place]: ...

    def __hash__(self) -> int: ...  # plans are kept by their rule


def everything(place: Place) -> tuple[Place, Place]:
    """Every query sees every key, as in an encoder."""
    return 0, sys.maxsize


def causal(place: Place) -> tuple[Place, Place]:
    """A query sees the keys up to its own, as in a decoder: t ↦ (0, t + 1)."""
    return 0, place + 1


class Window(NamedTuple):
    """A query sees its own key, and so many before and after it: t ↦ (t − before, t + after + 1)."""

    before: int
    after: int

    def __call__(self, place: Place) -> tuple[Place, Place]:
        return place - self.before, place + self.after + 1


def window(width: int) -> Rule:
    """A query sees its own key and the width − 1 before it (Beltagy et al., 2020): t ↦ (t − width + 1, t + 1).

    Raises
    ------
    ValueError: a width below 1, with which a query would not see its own key.
    """
    if width < 1:
        raise ValueError(f"a window must be at least 1 key wide; got {width}")
    return Window(width - 1, 0)


def around(reach: int) -> Rule:
    """A query sees its own key, `reach` keys before it and as many behind it: t ↦ (t − reach, t + reach + 1).

    Raises
    ------
    ValueError: a negative reach.
    """
    if reach < 0:
        raise ValueError(f"a window must reach 0 keys to each side or more; got {reach}")
    return Window(reach, reach)
