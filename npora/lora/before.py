"""The parts of a regular expression as maps of sets of places, so that all ways to match are tried at once.

`re` tries one way after another, and may have exponentially many to try. Here all are tried at once. A set of places
in the path, 0 … n, is the bits of a whole number, and a part R of an expression is the map that takes places E to

    before(R, E) = { i : R matches path[i:j] for some j in E }

    before(c, E) = (E >> 1) & the places of c              before(R S, E) = before(R, before(S, E))
    before(R|S, E) = before(R, E) ∪ before(S, E)           before(R*, E) = the smallest X with X = E ∪ before(R, X)
    before((?=R), E) = E ∩ before(R, {0 … n})

so that R matches the whole path where 0 is in before(R, {n}). A star is found in at most n steps, since X only grows.
Whether there is a match, lazy and greedy repetitions agree.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from itertools import pairwise

from npora.files.refusal import shortened

_MOST_STEPS = 20_000  # of one expression on one path

Before = Callable[["Places", int], int]


class Places:
    """A path, where its letters are, and how many steps are left."""

    def __init__(self, text: str) -> None:
        self.text, self.n, self.left = text, len(text), _MOST_STEPS
        self.everywhere = (2 << self.n) - 1
        self._letters: dict[Callable[[str], bool], int] = {}

    def places(self, is_one: Callable[[str], bool]) -> int:
        """Where a letter of this kind is."""
        if is_one not in self._letters:
            self._letters[is_one] = sum(1 << i for i, letter in enumerate(self.text) if is_one(letter))
        return self._letters[is_one]

    def step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"takes more than {_MOST_STEPS:,} steps on {shortened(self.text, 200)}: write it simpler")


def is_word(letter: str) -> bool:
    return letter.isalnum() or letter == "_"


def no_line_end(letter: str) -> bool:
    return letter != "\n"


def one_letter(is_one: Callable[[str], bool]) -> Before:
    def before(path: Places, ends: int) -> int:
        path.step()
        return path.places(is_one) & ends >> 1

    return before


def run_of(letters: str) -> Before:
    def before(path: Places, ends: int) -> int:
        path.step()
        found, place = 0, path.text.find(letters)
        while place >= 0:
            found |= 1 << place
            place = path.text.find(letters, place + 1)
        return found & ends >> len(letters)

    return before


def one_of(parts: list[Before]) -> Before:
    return lambda path, ends: reduce(lambda found, part: found | part(path, ends), parts, 0)


def in_a_row(parts: list[Before]) -> Before:
    def before(path: Places, ends: int) -> int:
        for part in reversed(parts):
            path.step()
            if not ends:
                return 0
            ends = part(path, ends)
        return ends

    return before


def repetition(part: Before, least: int, most: int | None) -> Before:
    """A step leads to the same place or to one before it, so that more than n + 1 of them lead no further."""

    def before(path: Places, ends: int) -> int:
        for _ in range(min(least, path.n + 1)):
            path.step()
            ends = part(path, ends)
        found = new = ends
        for _ in range(path.n + 1 if most is None else min(most - least, path.n + 1)):
            path.step()
            new = part(path, new) & ~found
            if not new:
                break
            found |= new
        return found

    return before


def ahead(part: Before, wanted: bool) -> Before:
    def before(path: Places, ends: int) -> int:
        found = part(path, path.everywhere)
        return ends & found if wanted else ends & ~found

    return before


def behind(part: Before, wanted: bool) -> Before:
    def before(path: Places, ends: int) -> int:
        asked = [place for place in range(path.n + 1) if ends >> place & 1]
        return sum(1 << place for place in asked if bool(part(path, 1 << place)) == wanted)

    return before


def boundaries(path: Places) -> int:
    """Where a word begins or ends."""
    words = [False, *map(is_word, path.text), False]
    return sum(1 << place for place, (before, after) in enumerate(pairwise(words)) if before != after)
