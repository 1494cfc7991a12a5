"""A line of a docstring or a comment as HTML: raised and lowered letters, symbols that say what they are, links."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import groupby

from npora.study.site.mathml import is_formula, lowered, mathml, raised
from npora.study.site.symbols import NAME, SHAPE, is_shape

_TOKEN = re.compile(
    rf"`(?P<code>[^`\n]+)`|(?P<quoted>\"\w+\")|(?P<shape>{SHAPE.pattern})|(?<![\w)])\((?P<number>\d+)\)(?!\w)"
    rf"|(?<!')(?<!-\d)(?P<word>{NAME}(?:_(?:\{{[^}}]*\}}|\w+))?)"
)
_MARKED = re.compile(r"[\u0300-\u036f′]")
_ARTICLE = re.compile(r" (?!d[a-zα-ω]\b)[A-Z]?[a-z]{2,}")
_BETWEEN = re.compile(r" (?:[=⊙·→+−/] )?")  # symbols, which stay on a line
_UNBROKEN = 24  # letters


@dataclass
class Typesetter:
    """Sets the text of one definition.

    letters, symbols : what they are
    number : the HTML of an equation's number
    known : the address of a name, "" where there is none
    variables : letters that are symbols in prose too
    reached : the symbols that have been set for a keyboard, each once
    """

    letters: Mapping[str, str]
    symbols: Mapping[str, str]
    number: Callable[[int], str]
    known: Callable[[str], str]
    variables: frozenset[str] = frozenset()
    reached: set[str] = field(default_factory=set)

    def line(self, text: str, formula: bool = False, gaps: bool = True) -> str:
        """formula: its letters are symbols, and an underscore lowers what follows, and what is one is MathML; gaps:
        spaces in a row are one gap, and what is short between two of them stays on a line."""
        if gaps and "  " in text:
            pieces = re.split(" {2,}", text)
            lines = [(self.line(piece, formula), len(piece) <= _UNBROKEN) for piece in pieces]
            return '<span class="gap"> </span>'.join(
                f'<span class="w">{x}</span>' if short else x for x, short in lines
            )
        if formula and is_formula(text):
            return mathml(text, self)
        parts, end, is_symbol = [], 0, False
        for match in _TOKEN.finditer(text):
            between, shown = text[end : match.start()], self._token(match, text, formula)
            was, is_symbol = is_symbol, match["word"] is not None and "<i>" in shown
            parts.append(
                between.replace(" ", "\u00a0")
                if was and is_symbol and _BETWEEN.fullmatch(between)
                else scripts(between)
            )
            parts.append(shown)
            end = match.end()
        return "".join([*parts, scripts(text[end:])])

    def _token(self, match: re.Match[str], text: str, formula: bool) -> str:
        if (code := match["code"]) is not None:
            address = self.known(code)
            inner = f"<code>{escape(code)}</code>"
            return f'<a href="{escape(address)}">{inner}</a>' if address else inner
        if match["quoted"] is not None:
            return escape(match["quoted"])
        if (shape := match["shape"]) is not None:
            return self.shape(shape) if is_shape(shape[1:-1]) else scripts(shape)
        if match["number"] is not None:
            return self.number(int(match["number"]))
        return self._word(match["word"], text[match.end() :], formula)

    def shape(self, shape: str) -> str:
        """Brackets with axes, each of whose letters says what it is."""
        return re.sub(r"[a-z]", lambda m: self.said(m[0], f"axis {m[0]}: {self.letters.get(m[0], '')}"), shape)

    def symbol(self, name: str) -> str:
        """What a name is, and "" where that is not known."""
        if name in self.symbols:
            return f"{name} {self.symbols[name]}"
        if name.startswith("d") and name[1:] in self.symbols:
            return f"{name}: the gradient of {name[1:]} {self.symbols[name[1:]]}"
        return ""

    def _word(self, word: str, after: str, formula: bool) -> str:
        base, underscore, low = word.partition("_")
        letters = len(_MARKED.sub("", _plain(base)))
        if underscore and not (letters <= 2 and len(low) <= (9 if formula else 2)):  # else the name of a variable
            return scripts(word)
        name = _plain(base)
        says = self.symbol(base) or self.symbol(name)
        if word in ("A", "a", "I") and _ARTICLE.match(after):
            return word
        low, rest = low.strip("{}"), scripts(base[len(name) :])
        if low:
            below = _plain(low)
            shown = f"<i>{escape(below)}</i>" if len(below) == 1 and below.isalpha() else escape(below)
            rest += f"<sub>{shown}</sub>{scripts(low[len(below) :])}"
        is_symbol = says or (letters == 1 and (formula or bool(low) or name in self.variables) and name not in "ΣΠ")
        shown = f"<i>{escape(name)}</i>" if is_symbol else escape(name)
        return (self.said(shown, says, name) if says else shown) + rest

    def said(self, shown: str, says: str, name: str | None = None) -> str:
        """The first of each can be reached by a keyboard."""
        key = name or shown
        stop = "" if key in self.reached else ' tabindex="0"'
        self.reached.add(key)
        return f'<abbr title="{escape(says)}"{stop}>{shown}</abbr>'


def scripts(text: str) -> str:
    """Escaped, with Unicode's raised and lowered characters as <sup> and <sub>."""
    parts = []
    for kind, run in groupby(text, raised):
        characters = "".join(run)
        if kind:
            parts.append(f"<{kind}>{escape(''.join(map(lowered, characters)))}</{kind}>")
        else:
            parts.append(escape(characters))
    return "".join(parts)


def _plain(word: str) -> str:
    """What stands before the first raised or lowered character."""
    return next((word[:at] for at, character in enumerate(word) if raised(character)), word)
