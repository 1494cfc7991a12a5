"""Regular expressions for the paths of modules, matched with work that is bounded: they come from others' files.

`re` tries one way after another, and may have exponentially many to try; here all are tried at once (`before.py`).
What is no regular language, a group that is matched again by its number, is refused, as are atomic groups, possessive
repetitions and flags.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from npora.files.refusal import shortened
from npora.lora.before import (
    Before,
    Places,
    ahead,
    behind,
    boundaries,
    in_a_row,
    is_word,
    no_line_end,
    one_letter,
    one_of,
    repetition,
    run_of,
)  # fmt: skip

_PLAIN = re.compile(r"[\w.]+")
_MOST_LETTERS = 50_000  # a target_modules that lists every module of a large model has 20,000
_MOST_DEPTH = 50


def is_plain(expression: str) -> bool:
    """Whether this is a name, or names with dots between them, which as an expression match any letter there."""
    return _PLAIN.fullmatch(expression) is not None


def matches(expression: str, path: str) -> bool:
    """`re.fullmatch(expression, path) is not None`.

    Raises
    ------
    ValueError: no regular expression, one that npora does not read, or too much work.
    """
    return bool(_run(expression, path, {len(path)}) & 1)


def fits_the_end(expression: str, path: str) -> bool:
    """Whether an expression matches the whole path, or the rest of it behind one of its dots. Raises as matches."""
    if is_plain(expression):  # the usual ones, of which there may be one for each module
        end = path[-len(expression) :]
        at_an_end = len(path) == len(end) or path[-len(end) - 1] == "."
        return len(end) == len(expression) and at_an_end and all(map(_is_letter_of, expression, end))
    found = _run(expression, path, {len(path)})
    return any(found >> start & 1 for start in (0, *_behind_dots(path)))


def number_after(expression: str, path: str) -> int | None:
    """The number behind the first module that an expression matches: 3 of `layers` in `model.layers.3.mlp`."""
    numbers = {found.start(): int(found[1]) for found in re.finditer(r"\.(\d{1,9})(?=\.|$)", path)}
    found = {place: _run(expression, path, {place}) for place in numbers}
    for start in (*_behind_dots(path), 0):
        if ends := [place for place in numbers if found[place] >> start & 1]:
            return numbers[max(ends)]
    return None


def check_expression(expression: str) -> None:
    """Raise ValueError where this is no regular expression, or one that npora does not read."""
    _parsed(expression)


def _is_letter_of(expression: str, path: str) -> bool:
    return expression in (path, ".")


def _behind_dots(path: str) -> list[int]:
    return [place + 1 for place, letter in enumerate(path) if letter == "."]


def _run(expression: str, path: str, ends: set[int]) -> int:
    before = _parsed(expression)
    try:
        return before(Places(path), sum(1 << end for end in ends))
    except ValueError as error:
        raise ValueError(f"the regular expression {shortened(expression, 200)} {error}") from None


@lru_cache(maxsize=512)
def _parsed(expression: str) -> Before:
    try:
        if len(expression) > _MOST_LETTERS:
            raise ValueError(f"it has {len(expression):,} letters; at most {_MOST_LETTERS:,} are read")
        return _Parser(expression).whole()
    except ValueError as error:
        raise ValueError(f"the regular expression {shortened(expression, 200)} cannot be used: {error}") from None


_KINDS: dict[str, Callable[[str], bool]] = {
    "d": str.isdecimal, "s": str.isspace, "w": is_word,
    "D": lambda letter: not letter.isdecimal(), "S": lambda letter: not letter.isspace(),
    "W": lambda letter: not is_word(letter),
}  # fmt: skip
_REPETITION = re.compile(r"[*+?]|\{(\d{1,9})\}|\{(\d{0,9}),(\d{0,9})\}")
_NAMED = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a", "0": "\0"}


class _Parser:
    """Takes an expression apart from left to right, into the maps of the module's docstring."""

    def __init__(self, expression: str) -> None:
        self.text, self.at, self.depth = expression, 0, 0

    def whole(self) -> Before:
        result = self._alternatives()
        if self.at < len(self.text):
            raise ValueError("a ) closes nothing")
        return result

    def _next(self) -> str:
        return self.text[self.at : self.at + 1]

    def _take(self, start: str) -> bool:
        if self.text.startswith(start, self.at):
            self.at += len(start)
            return True
        return False

    def _alternatives(self) -> Before:
        parts = [self._sequence()]
        while self._take("|"):
            parts.append(self._sequence())
        return parts[0] if len(parts) == 1 else one_of(parts)

    def _sequence(self) -> Before:
        parts: list[Before] = []
        letters = ""
        while self._next() not in ("", "|", ")"):
            plain = self._plain_letter()
            before = None if plain is not None else self._atom()
            repeated = self._repetition()
            if plain is not None and repeated is None:
                letters += plain
                continue
            if letters:
                parts.append(run_of(letters))
                letters = ""
            before = run_of(plain) if before is None and plain is not None else before
            assert before is not None
            parts.append(before if repeated is None else repetition(before, *repeated))
        if letters:
            parts.append(run_of(letters))
        return parts[0] if len(parts) == 1 else in_a_row(parts)

    def _plain_letter(self) -> str | None:
        """The next letter where it stands for itself, escaped or not."""
        letter = self._next()
        if letter == "\\":
            following = self.text[self.at + 1 : self.at + 2]
            if following in _KINDS or following in ("", "b", "B", "A", "Z"):
                return None
            return self._escaped()
        if letter in ".^$[(*+?":
            return None
        self.at += 1
        return letter

    def _escaped(self) -> str:
        """The letter that \\n, \\x41, \\. and the like are."""
        self.at += 1
        letter = self._next()
        self.at += 1
        if letter in ("x", "u"):
            width = 2 if letter == "x" else 4
            digits = self.text[self.at : self.at + width]
            self.at += width
            if not re.fullmatch(rf"[0-9a-fA-F]{{{width}}}", digits):
                raise ValueError(f"\\{letter}{digits} is no letter")
            return chr(int(digits, 16))
        if letter in _NAMED:
            return _NAMED[letter]
        if letter.isdigit():
            raise ValueError(f"npora does not match a group again, as \\{letter} does")
        if letter == "" or (letter.isascii() and letter.isalpha()):
            raise ValueError(f"\\{letter} means nothing")
        return letter

    def _atom(self) -> Before:
        if self._take("."):
            return one_letter(no_line_end)
        if self._take("^") or self._take("\\A"):
            return lambda path, ends: ends & 1
        if self._take("$"):
            return lambda path, ends: ends & (1 << path.n | (1 << path.n - 1 if path.text.endswith("\n") else 0))
        if self._take("\\Z"):
            return lambda path, ends: ends & 1 << path.n
        if self._take("\\b"):
            return lambda path, ends: ends & boundaries(path)
        if self._take("\\B"):
            return lambda path, ends: ends & ~boundaries(path) if path.n else 0
        if self._take("("):
            return self._group()
        if self._take("["):
            return self._letters_between_brackets()
        if self._take("\\") and self._next() in _KINDS and self._next():
            self.at += 1
            return one_letter(_KINDS[self.text[self.at - 1]])
        raise ValueError(f"{self._next() or 'a backslash at its end'} has nothing to repeat or to mean")

    def _group(self) -> Before:
        kind = next((kind for kind in ("?:", "?=", "?!", "?<=", "?<!", "?P<") if self._take(kind)), "")
        if kind == "?P<":
            end = self.text.find(">", self.at)
            if end < 0 or not self.text[self.at : end].isidentifier():
                raise ValueError("a group has a name that is none")
            self.at = end + 1
        elif not kind and self._next() == "?":
            raise ValueError(f"npora does not read the group ({self.text[self.at : self.at + 3]}…")
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise ValueError(f"its groups are more than {_MOST_DEPTH} deep in each other")
        inside = self._alternatives()
        self.depth -= 1
        if not self._take(")"):
            raise ValueError("a ( is not closed")
        if kind in ("?=", "?!"):
            return ahead(inside, kind == "?=")
        return behind(inside, kind == "?<=") if kind.startswith("?<") else inside

    def _letters_between_brackets(self) -> Before:
        negated, kinds, first = self._take("^"), [], True
        ranges: list[tuple[str, str]] = []
        while first or not self._take("]"):
            if not self._next():
                raise ValueError("a [ is not closed")
            first = False
            low = self._member()
            if isinstance(low, str) and self._next() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", ""):
                self.at += 1
                high = self._member()
                if not isinstance(high, str) or high < low:
                    raise ValueError(f"the range of letters from {low} is none")
                ranges.append((low, high))
            elif isinstance(low, str):
                ranges.append((low, low))
            else:
                kinds.append(low)

        def is_one(letter: str) -> bool:
            found = any(low <= letter <= high for low, high in ranges) or any(kind(letter) for kind in kinds)
            return found != negated

        return one_letter(is_one)

    def _member(self) -> str | Callable[[str], bool]:
        letter = self._next()
        if letter == "\\":
            following = self.text[self.at + 1 : self.at + 2]
            if following in _KINDS or following == "b":
                self.at += 2
                return "\b" if following == "b" else _KINDS[following]
            return self._escaped()
        self.at += 1
        return letter

    def _repetition(self) -> tuple[int, int | None] | None:
        """(at least, at most) of a *, +, ?, {m} or {m,n} that follows; None where none does."""
        found = _REPETITION.match(self.text, self.at)
        if found is None or found[0] == "{,}":
            return None
        self.at = found.end()
        if not self._take("?") and self._next() == "+":
            raise ValueError("npora does not read possessive repetitions")
        if self._next() in ("*", "+", "?"):
            raise ValueError("a repetition repeats a repetition")
        if found[0] in ("*", "+", "?"):
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[found[0]]
        least = int(found[1] or found[2] or 0)
        most = least if found[1] else int(found[3]) if found[3] else None
        if most is not None and most < least:
            raise ValueError(f"the repetition {found[0]} is none")
        return least, most
