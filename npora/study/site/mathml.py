"""A formula of a docstring as MathML: what is raised, lowered or under a root, names apart from words, nothing lost."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from html import escape
from itertools import groupby
from typing import Protocol

from npora.study.site.symbols import NAME, SHAPE, is_shape

_TEXT = re.compile(r'`[^`]+`|"[^"]*"')
_NUMBERED = re.compile(r"(?<![\w)])\((\d+)\)(?!\w)")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*", re.ASCII)
_WORD = re.compile(NAME)
_IDENTIFIER = re.compile(r"[A-Za-z]{3,}\w*_\w+(?:\.\w+)*|[A-Za-z]\w*\.\w+", re.ASCII)
_LOW = re.compile(r"_(?:\{([^}]*)\}|([^\W_]+))")
_ARTICLE = re.compile(r" (?!d[a-zα-ω]\b)[A-Z]?[a-z]{2,}")
_MARKS = re.compile("[\u0300-\u036f]")
_RELATION = re.compile(r"[=←→↦≤<≥]")
_PROSE = re.compile(r"(?<![\w`.])[a-z]{2,}(?![\w(`.])")
_OPERATORS = "=←→+−"
_LONG = 22  # letters of a formula that is not broken
FUNCTIONS = frozenset("log ln exp cos sin tan tanh max min mean sum sign diag erf softmax dropout mod rank".split())


class Says(Protocol):
    """What a Typesetter knows: the HTML of shapes and numbers, and what symbols are."""

    @property
    def number(self) -> Callable[[int], str]: ...
    def shape(self, shape: str) -> str: ...
    def symbol(self, name: str) -> str: ...
    def said(self, shown: str, says: str, name: str | None = None) -> str: ...


def is_formula(text: str) -> bool:
    """Is it one, rather than words about one?"""
    words = [word for word in _PROSE.findall(text) if word not in FUNCTIONS and not word.startswith("d")]
    return _RELATION.search(text) is not None and len(words) <= max(3, len(text) // 12)


def mathml(text: str, set_: Says) -> str:
    """One `math`, or several of a long formula, which can be broken between them."""
    return "".join(
        f"{'' if at == 0 else '<wbr>' if part[0] in _OPERATORS else ' '}"
        f'<math alttext="{escape(part)}"><mrow>{_Reader(part, set_).row()}</mrow></math>'
        for at, part in enumerate(parts(text))
    )


def parts(text: str) -> list[str]:
    """A long formula, broken outside parentheses in front of what relates, adds or multiplies."""
    if len(text) <= _LONG:
        return [text]
    depth, begins = 0, [0]
    for at, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        alone = text[at - 1 : at + 2] == f" {c} " and c in _OPERATORS
        factor = (
            text[at - 1 : at] == " " and (c.isalnum() or c == "(") and text[at - 2].isalnum() | (text[at - 2] in ")]")
        )
        if depth == (c in "([{") and (alone or factor) and at - begins[-1] > _LONG // 3:
            begins.append(at)
    return [text[a:b].rstrip() for a, b in zip(begins, [*begins[1:], len(text)], strict=True)]


class _Reader:
    """Reads a formula from the left. `set_` says what symbols are; None for what is raised or lowered."""

    def __init__(self, text: str, set_: Says | None) -> None:
        self.text, self.set_, self.at = text, set_, 0

    def row(self, closing: str = "") -> str:
        found: list[str] = []
        before_operates = True
        while self.at < len(self.text) and not (closing and self.text[self.at] == closing):
            begin = self.at
            while self.text[self.at : self.at + 1] == " ":
                self.at += 1
            if self.at == len(self.text) or self.text[self.at] == closing:
                break
            spaced = self.at > begin
            item = self._scripted(self._atom())
            operates = item.startswith("<mo")
            if spaced and not operates and not before_operates:
                # A script brings a gap of its own.
                found.append(f'<mspace width="{"0.1" if found[-1].startswith("<msu") else "0.28"}em"></mspace>')
            found.append(item)
            before_operates = operates
        return "".join(found)

    def _take(self, match: re.Match[str]) -> str:
        self.at = match.end()
        return match[0]

    def _atom(self) -> str:
        text, at = self.text, self.at
        if match := _TEXT.match(text, at):
            said = self._take(match)
            return f"<mtext>{f'<code>{escape(said[1:-1])}</code>' if said[0] == '`' else escape(said)}</mtext>"
        if (match := SHAPE.match(text, at)) and is_shape(match[1]):
            said = self._take(match)
            return f"<mtext><span>{self.set_.shape(said) if self.set_ else escape(said)}</span></mtext>"
        if self.set_ and (match := _NUMBERED.match(text, at)):
            self._take(match)
            return f"<mtext>{self.set_.number(int(match[1]))}</mtext>"
        if match := _IDENTIFIER.match(text, at):
            return f"<mtext>{escape(self._take(match))}</mtext>"
        if match := _NUMBER.match(text, at):
            return f"<mn>{self._take(match)}</mn>"
        if match := _WORD.match(text, at):
            return self._word(match[0])
        self.at += 1
        if text[at] == "(":
            return self._group()
        if text[at] == "√" and at + 1 < len(text):
            return self._root()
        if text[at] in "|‖()[]":
            return f'<mo stretchy="false" lspace="0" rspace="0">{text[at]}</mo>'
        if text[at] == ".":
            return '<mo lspace="0" rspace="0">.</mo>'
        if at == 0 and text[at] in _OPERATORS and text[1:2] == " ":  # in front of a part of a longer formula
            gap = '<mspace width="0.22em"></mspace>'
            return f'<mo lspace="0.22em" rspace="0">{text[at]}</mo>{gap}'
        return f"<mo>{escape(text[at])}</mo>"

    def _group(self) -> str:
        """What stands in parentheses, with them, so that what is raised behind belongs to all of it."""
        inner = self.row(")")
        if self.at == len(self.text):
            return f'<mo stretchy="false" lspace="0" rspace="0">(</mo>{inner}'
        self.at += 1
        return f'<mrow><mo stretchy="false">(</mo>{inner}<mo stretchy="false">)</mo></mrow>'

    def _root(self) -> str:
        if self.text[self.at] == "(":
            self.at += 1
            inner = self.row(")")
            self.at += 1
            return f"<msqrt>{inner}</msqrt>"
        return f"<msqrt>{self._scripted(self._atom())}</msqrt>"

    def _word(self, word: str) -> str:
        plain = next((word[:k] for k, c in enumerate(word) if raised(c) or c == "′"), word)
        self.at += len(plain)
        after = self.text[self.at :]
        letters = _MARKS.sub("", plain)
        if self.text[: self.at - len(plain)].endswith("'"):
            return f"<mtext>{escape(plain)}</mtext>"
        says = ""
        if self.set_ is not None and not (plain in ("A", "a", "I") and _ARTICLE.match(after)):
            says = (
                self.set_.symbol(word)
                or self.set_.symbol(plain + "′" * after.startswith("′"))
                or self.set_.symbol(plain)
            )
        if says and self.set_ is not None:
            return f"<mi>{self.set_.said(f'<i>{escape(plain)}</i>', says, plain)}</mi>"
        if plain in ("A", "a", "I") and _ARTICLE.match(after):
            return f"<mtext>{plain}</mtext>"
        if letters in ("Σ", "Π", "Δ", "Φ", "Ω"):
            return f'<mi class="f" mathvariant="normal">{plain}</mi>'
        if len(letters) == 1 or (len(letters) == 2 and letters[0] in "dΔ▵" and letters != "do"):
            return f"<mi>{escape(plain)}</mi>"
        if letters in FUNCTIONS or after.startswith(("(", "_")):
            return f'<mi class="f">{escape(plain)}</mi>'
        return f"<mtext>{escape(plain)}</mtext>"

    def _scripted(self, base: str) -> str:
        """The base with what is lowered and raised behind it."""
        low = high = ""
        while self.at < len(self.text):
            c = self.text[self.at]
            if kind := raised(c):
                run = next("".join(run) for _, run in groupby(self.text[self.at :], raised))
                self.at += len(run)
                inner = _Reader("".join(map(lowered, run)), None).row()
                low, high = (low, high + inner) if kind == "sup" else (low + inner, high)
            elif c == "′":
                self.at += 1
                high += "<mo>′</mo>"
            elif c == "_" and (match := _LOW.match(self.text, self.at)):
                inside = match[1] if match[1] is not None else _upto(match[2])
                self.at = match.end() if match[1] is not None else self.at + 1 + len(inside)
                low += _Reader(inside, None).row()
            elif c == "^" and self.text[self.at + 1 : self.at + 2].strip():
                self.at += 1
                if self.text[self.at] == "(":
                    self.at += 1
                    high += self.row(")")
                    self.at += 1
                else:
                    high += self._atom()
            else:
                break
        if low and high:
            return f"<msubsup>{base}<mrow>{low}</mrow><mrow>{high}</mrow></msubsup>"
        if low or high:
            tag = "msub" if low else "msup"
            return f"<{tag}>{base}<mrow>{low or high}</mrow></{tag}>"
        return base


def raised(c: str) -> str:
    """Whether a character is a raised one ("sup") or a lowered one ("sub"); else ""."""
    form = unicodedata.decomposition(c)
    return "sup" if form.startswith("<super>") else "sub" if form.startswith("<sub>") else ""


def lowered(c: str) -> str:
    """The plain character of a raised or lowered one."""
    return chr(int(unicodedata.decomposition(c).split()[1], 16))


def _upto(name: str) -> str:
    """A name up to what is raised in it."""
    return next((name[:k] for k, c in enumerate(name) if raised(c)), name)
