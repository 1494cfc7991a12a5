"""What a letter or a symbol is: axis letters by the legend, symbols by the shapes and equations that a page gives."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from npora.study.site.sources import Definition, Page

SHAPE = re.compile(r"\[([^\[\]\n]+)\]")
NAME = r"[^\W\d_](?:[^\W_]|[\u0300-\u036f′])*"
_AXIS = re.compile(r"\d*[a-z]?(?:[·/](?:\d*[a-z]|\d+))*|\d+|[a-z0-9]\|\d*[a-z]|[a-z] ?[+−] ?[a-z0-9]|\.\.\.|…")
_SHAPED = re.compile(rf"((?:{NAME}, )*{NAME}) (?:int |bool )?(\[[^\[\]\n]+\])")
_DEFINED = re.compile(rf"(?:^|(?<=  )|(?<=, ))({NAME}) = (.+?)(?=\.?(?:  |$)|,  |\.\s)")
_LETTER = re.compile(r"(?<![\w.'`/-])d?([A-Za-zα-ωΑ-Ωℓ])(?![a-zA-Z'])")
_COMMENTED = re.compile(r"^\s*([\w, ]+?) \+?= .*#.*?(\[[^\[\]\n]+\])$")
_LONGEST = 6  # letters of a symbol; longer ones are words
_WORD = re.compile(r"(?!d?[a-z]$)[a-z]+")  # a symbol only where the code has it too
_TYPES = ("int", "bool")


def legend(root: Path) -> dict[str, str]:
    """What each axis letter means, by the legend in nn/functional.py."""
    doc = ast.get_docstring(ast.parse((root / "nn" / "functional.py").read_text(encoding="utf-8"))) or ""
    return {letter: " ".join(says.split()) for letter, says in re.findall(r"`([a-z])`\s([^`.]+?)(?:,\s(?=`)|\.)", doc)}


def is_shape(inside: str) -> bool:
    """Are these axes, as in `...,h·d`?"""
    axes = [axis.strip() for axis in inside.split(",")]
    return all(axis and _AXIS.fullmatch(axis) for axis in axes) and re.search("[a-z]|\\.\\.\\.", inside) is not None


def said_of_shape(shape: str, letters: Mapping[str, str]) -> str:
    """The axes in words: [...,o] as "leading axes, out"."""
    axes = [axis.strip() for axis in shape.strip("[]").split(",")]
    words = [re.sub("[a-z]", lambda m: letters.get(m[0], m[0]), a) if a != "..." else "leading axes" for a in axes]
    return "; ".join(words)


def symbols_of(page: Page, definition: Definition, letters: Mapping[str, str]) -> dict[str, str]:
    """What each symbol of a definition is: its shape, or the equation that defines it."""
    found: dict[str, str] = {}
    inside = [d for d in page.definitions if d.name.startswith(f"{definition.name}.")]
    for doc in [definition.doc, *(d.doc for d in inside)]:
        for line in _formulas(doc):
            for names, shape in _SHAPED.findall(line):
                if is_shape(shape[1:-1]):
                    for name in names.split(", "):
                        found.setdefault(name, f"{shape} ({said_of_shape(shape, letters)})")
            for name, says in _DEFINED.findall(line):
                found.setdefault(name, f"= {says.strip()}")
    for line in page.text.splitlines()[definition.first - 1 : definition.last]:
        if (match := _COMMENTED.match(line)) and is_shape(match[2][1:-1]):
            for name in match[1].split(", "):
                found.setdefault(name, f"{match[2]} ({said_of_shape(match[2], letters)})")
    return {name: says for name, says in found.items() if len(name) <= _LONGEST and _is_symbol(name, definition)}


def _is_symbol(name: str, definition: Definition) -> bool:
    bare = name.removeprefix("d") if name not in definition.names else name
    return _WORD.fullmatch(name) is None or (bare in definition.names and name not in _TYPES)


def letters_of(doc: str) -> frozenset[str]:
    """The single letters of a docstring's formulas, which mean the same in its prose."""
    lines = [line for line in _formulas(doc) if "=" in line]
    found = {match[1] for line in lines for match in _LETTER.finditer(SHAPE.sub("", line))}
    return frozenset(found - set("aAIΣΠ"))


def _formulas(doc: str) -> Iterator[str]:
    """The first paragraph, those with an arrow, and the lines that are indented."""
    first, _, rest = doc.partition("\n\n")
    yield " ".join(first.split("\n"))
    for paragraph in rest.split("\n\n"):
        if "→" in paragraph and not paragraph.startswith("    "):
            yield " ".join(paragraph.split("\n"))
    for line in rest.splitlines():
        if line.startswith("    "):
            yield re.sub(r"\s+\(\d+\)", "  ", line.strip())
