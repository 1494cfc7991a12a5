"""A docstring as HTML: paragraphs, equations with their numbers, and lists of parameters and errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from npora.study.site.formulas import Typesetter
from npora.study.site.sources import EQUATION

_ENTRY = re.compile(r"^(\w[\w*, ]*?) : (.*)$")
_ERROR = re.compile(r"^(\w[\w, ]*?): (.*)$")  # under a heading
_HEADING = re.compile(r"^-{3,}$")


def html_of(doc: str, set_: Typesetter, equation: str = "") -> str:
    """equation: what the classes of an equation's rows begin with."""
    chunks = [chunk.split("\n") for chunk in re.split(r"\n\s*\n", doc) if chunk.strip()]
    return "\n".join(
        part for first, lines in ((chunk is chunks[0], chunk) for chunk in chunks)
        for part in _chunk(lines, set_, first, equation)
    )  # fmt: skip


def _chunk(lines: list[str], set_: Typesetter, first: bool, equation: str) -> Iterator[str]:
    if len(lines) > 1 and _HEADING.match(lines[1]):
        yield f"<h3>{escape(lines[0])}</h3>"
        yield _entries(lines[2:], set_)
        return
    if _ENTRY.match(lines[0]) and not first:
        yield _entries(lines, set_)
        return
    words: list[str] = []
    for line in lines:
        if line.startswith("    ") or EQUATION.search(line):
            yield from _paragraph(words, set_, first)
            words = []
            yield _equation(line.strip(), set_, equation)
        else:
            words.append(line)
    yield from _paragraph(words, set_, first)


def _paragraph(words: list[str], set_: Typesetter, first: bool) -> Iterator[str]:
    if words:
        start = '<p class="lead">' if first else "<p>"
        yield f"{start}{set_.line(' '.join(words), formula=first)}</p>"


def _equation(line: str, set_: Typesetter, equation: str) -> str:
    """A formula, at its right the last of its numbers, and below what is said of it."""
    found = list(EQUATION.finditer(line))
    if not found:
        return f'<div class="eq"><span class="f">{set_.line(line, formula=True)}</span></div>'
    last = found[-1]
    classes = " ".join(["eq", *(f"{equation}{match[1]}" for match in found)])
    remark = line[last.end() :].strip()
    below = f'<span class="r">{set_.line(remark, formula=True)}</span>' if remark else ""
    formula = set_.line(line[: last.start()].rstrip(), formula=True)
    return f'<div class="{classes}"><span class="f">{formula}</span>{set_.number(int(last[1]))}{below}</div>'


def _entries(lines: list[str], set_: Typesetter) -> str:
    parts: list[list[str]] = []
    for line in lines:
        if (match := _ENTRY.match(line) or _ERROR.match(line)) is not None:
            parts.append([match[1], match[2]])
        elif parts:
            parts[-1][1] += " " + line.strip()
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{set_.line(says)}</dd>' for name, says in parts)}</dl>"
