"""Code as HTML, line by line: Python's own tokens with their kinds, links to what is imported, numbers to equations."""

from __future__ import annotations

import io
import keyword
import re
import tokenize
from collections.abc import Callable
from html import escape

from npora.study.site.formulas import Typesetter
from npora.study.site.sources import Page

_FOR_TOOLS = re.compile(r"  # (?:type: ignore(?:\[[\w-]+\])?|fmt: skip|noqa(?:: \w+)?)(?=  #|$)")  # no reader's
_LITERALS = ("FSTRING_START", "FSTRING_MIDDLE", "FSTRING_END")


def lines_of(page: Page, set_at: Callable[[int], Typesetter], known: Callable[[str], str]) -> list[str]:
    """The HTML of each line. set_at: who sets the comments and docstrings of a line; known: the address of a name."""
    source = [_FOR_TOOLS.sub("", line) for line in page.text.splitlines()]
    docs = {definition.doc_lines.start for definition in page.definitions if definition.doc and definition.is_inner}
    parts: list[list[str]] = [[] for _ in source]
    row, column, before = 1, 0, ""
    for token in tokenize.generate_tokens(io.StringIO("\n".join(source)).readline):
        (first, start), (last, end) = token.start, token.end
        if first > len(source) or token.type in (tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
            continue
        if first > row:
            row, column = first, 0
        parts[first - 1].append(escape(source[first - 1][column:start]))
        said = token.type == tokenize.COMMENT or (token.type == tokenize.STRING and first in docs)
        for line in range(first, last + 1):
            text = source[line - 1][start if line == first else 0 : end if line == last else None]
            if said:
                inner = set_at(line).line(text, gaps=False)
            else:
                inner = escape(text)
            address = known(text) if token.type == tokenize.NAME and before != "." else ""
            kind = _kind(token, before)
            shown = f'<span class="{kind}">{inner}</span>' if kind and text.strip() else inner
            parts[line - 1].append(f'<a href="{escape(address)}">{shown}</a>' if address else shown)
        row, column, before = last, end, token.string
    return ["".join(line) for line in parts]


def _kind(token: tokenize.TokenInfo, before: str) -> str:
    if token.type == tokenize.COMMENT:
        return "c"
    if token.type == tokenize.STRING or tokenize.tok_name[token.type] in _LITERALS:
        return "s"
    if token.type == tokenize.NUMBER:
        return "m"
    if token.type != tokenize.NAME:
        return ""
    if keyword.iskeyword(token.string):
        return "k"
    return "d" if before in ("def", "class") else ""
