"""A page: each definition's derivation beside its code, and what gradcheck says of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from string import Template

from npora.study.site.code import lines_of
from npora.study.site.formulas import Typesetter
from npora.study.site.graph import graph_html
from npora.study.site.numbers import Numbers
from npora.study.site.papers import paper_html
from npora.study.site.prose import html_of
from npora.study.site.sources import Definition, Page
from npora.study.site.symbols import letters_of, symbols_of
from npora.study.site.tables import verdict_html
from npora.study.site.verdicts import Verdict

_SHORT = 40  # characters of a line that is not broken
DOCUMENT = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<link rel="stylesheet" href="${up}style.css">
<style>$style</style>
</head>
<body>
<a class="skip" href="#content">To the content</a>
<header>
<nav aria-label="npora study"><a href="${up}index.html">npora study</a>$trail</nav>
<h1>$heading</h1>
$lead
</header>
<main id="content">
$main
</main>
$footer
</body>
</html>
""")


@dataclass(frozen=True)
class Known:
    """Which pages there are: by module, and by a definition's name."""

    pages: Mapping[str, Page]

    @cached_property
    def modules(self) -> dict[str, str]:
        return {page.module: name for name, page in self.pages.items()}

    @cached_property
    def names(self) -> dict[str, str]:
        """The address of each definition's name; of names that two pages have, the first's."""
        found: dict[str, str] = {}
        for name, page in self.pages.items():
            for definition in page.outer:
                found.setdefault(definition.name, f"{name}.html#{definition.name}")
        return found

    def address(self, here: Page, name: str) -> str:
        """Where a name leads that stands on a page: to what is defined there, or to what is imported."""
        if name.endswith(".py"):
            name = name.removesuffix(".py").removeprefix("npora/")
            folder = here.name.rpartition("/")[0]
            found = next((n for n in (f"{folder}/{name}", f"lora/{name}", name) if n in self.pages), "")
            return relative(here, f"{found}.html") if found else ""
        if any(definition.name == name for definition in here.outer):
            return f"#{name}"
        module, original = here.imported.get(name, ("", name))
        if module in self.modules:
            target = self.pages[self.modules[module]]
            if any(definition.name == original for definition in target.outer):
                return relative(here, f"{target.name}.html#{original}")
        return ""

    def anywhere(self, here: Page, name: str) -> str:
        """The same for a name between backquotes, which a page of npora may not import."""
        found = self.address(here, name)
        if not found and name in self.names:
            found = relative(here, self.names[name])
        return found


def relative(here: Page, address: str) -> str:
    return os.path.relpath(address, os.path.dirname(here.name) or ".").replace(os.sep, "/")


def html(
    page: Page,
    known: Known,
    letters: Mapping[str, str],
    verdicts: Mapping[str, Sequence[tuple[str, Verdict]]],
    said: Mapping[str, str] | None = None,
) -> str:
    """verdicts, and HTML that is said besides: by the page's definitions."""
    return _Writer(page, known, letters, said or {}).document(verdicts)


class _Writer:
    def __init__(self, page: Page, known: Known, letters: Mapping[str, str], said: Mapping[str, str]) -> None:
        self.page, self.known, self.letters, self.said = page, known, letters, said
        self.numbers = Numbers(page)
        self.symbols = {d.name: symbols_of(page, d, letters) for d in page.outer}
        self.variables = {d.name: letters_of(d.doc) for d in page.outer}
        self.written: set[str] = set()  # the anchors of equations that are on the page already
        self.code = lines_of(page, self._set_line, lambda name: known.address(page, name))

    def document(self, verdicts: Mapping[str, Sequence[tuple[str, Verdict]]]) -> str:
        parts, line = [], 1
        module_lines = _lines_of_the_docstring(self.page)
        for definition in self.page.outer:
            parts.append(self._between(line, definition.first, module_lines))
            parts.append(self._section(definition, verdicts.get(definition.name, ())))
            line = definition.last + 1
        parts.append(self._between(line, len(self.code) + 1, module_lines))
        depth = self.page.name.count("/")
        plain = Typesetter(self.letters, {}, lambda n: f"({n})", lambda name: self.known.anywhere(self.page, name))
        path = f"npora/{self.page.name}.py"
        listed = "".join(f'<li><a href="#{d.name}">{d.name}</a></li>' for d in self.page.outer if d.is_public)
        return DOCUMENT.substitute(
            title=escape(f"{self.page.name}: npora study"), up="../" * depth, style=self._pointed(),
            trail=f' <span aria-hidden="true">/</span> {escape(self.page.group)}',
            heading=f"<code>{escape(path)}</code>",
            lead=f'{html_of(self.page.doc, plain)}\n<ul class="names">{listed}</ul>',
            main="\n".join(filter(None, parts)), footer=self._footer(),
        )  # fmt: skip

    def _section(self, definition: Definition, verdicts: Sequence[tuple[str, Verdict]]) -> str:
        name = definition.name
        set_ = self._set(definition)
        doc = html_of(definition.doc, set_, f"e-{_slug(name)}-")
        symbols = self.symbols[name]
        plain = Typesetter({}, {}, lambda n: f"({n})", lambda name: "")
        table = "".join(
            f"<dt><i>{escape(symbol)}</i></dt><dd>{plain.line(says, formula=True)}</dd>"
            for symbol, says in symbols.items()
        )
        legend = f"<details><summary>Symbols</summary><dl>{table}</dl></details>" if table else ""
        shown = [n for n in range(definition.first, definition.last + 1) if n not in definition.doc_lines]
        checks = "\n".join(verdict_html(row, verdict, at == 0) for at, (row, verdict) in enumerate(verdicts))
        checks = f'<div class="verdicts"><h3>Checks of {escape(name)}</h3>{checks}</div>' if checks else ""
        graph = graph_html(self.numbers, definition, symbols)
        paper = paper_html(self.page, definition, set_, lambda line: self.code[line - 1]) + self.said.get(name, "")
        derivation = f'<div class="derivation">{doc}\n{legend}</div>\n' if doc or legend else ""
        pair = (
            f'<div class="pair{"" if derivation else " alone"}">\n{derivation}'
            f"{self._lines(shown, f'Code of {name}')}\n</div>\n{graph}{paper}{checks}"
        )
        heading = f'<h2 id="h-{name}">{name}</h2>'
        if self._is_helper(definition):
            inner = f'<details class="helper"><summary>{heading}</summary>\n{pair}</details>'
        else:
            inner = f"{heading}\n{pair}"
        return f'<section id="{name}" aria-labelledby="h-{name}">\n{inner}</section>'

    def _is_helper(self, definition: Definition) -> bool:
        """Is it private, and has no equation and computes none?"""
        lines = range(definition.first, definition.last + 1)
        return definition.name.startswith("_") and not any(
            name == definition.name or any(line in lines for line in found)
            for (name, _), found in self.numbers.equations.items()
        )

    def _between(self, first: int, end: int, left_out: range) -> str:
        """What stands between definitions: imports, folded, and constants."""
        shown = [line for line in range(first, end) if line not in left_out]
        while shown and not self.code[shown[0] - 1].strip():
            del shown[0]
        while shown and not self.code[shown[-1] - 1].strip():
            del shown[-1]
        if not shown:
            return ""
        block = self._lines(shown, f"Lines {shown[0]} to {shown[-1]}")
        return f"<details><summary>Imports and constants</summary>{block}</details>" if first == 1 else block

    def _lines(self, shown: Sequence[int], label: str) -> str:
        lines = []
        for number in shown:
            classes = "".join(f" e-{_slug(name)}-{n}" for name, n in self._on_line(number))
            text = self.page.text.splitlines()[number - 1]
            own = f' style="--i:{len(text) - len(text.lstrip())}"' if len(text) > _SHORT else ""
            code = self.code[number - 1]
            lines.append(f'<span class="l{classes}" id="L{number}" data-n="{number}"{own}>{code}\n</span>')
        return f'<pre class="code" role="region" aria-label="{escape(label)}"><code>{"".join(lines)}</code></pre>'

    def _on_line(self, line: int) -> list[tuple[str, int]]:
        return [key for key, lines in self.numbers.equations.items() if line in lines]

    def _set_line(self, line: int) -> Typesetter:
        around = self.page.around(line)
        return self._set(around[0] if around else None, line)

    def _set(self, definition: Definition | None, line: int | None = None) -> Typesetter:
        """line: of the code, where a number in a comment leads to its equation."""

        def number(n: int) -> str:
            comment = line is not None and line in self.numbers.comments
            find = self.numbers.owner_of_line(line, n) if comment and line is not None else None
            owner = find if comment else self.numbers.owner_of_word(definition, n)
            if owner is None:
                return f"({n})"
            anchor = f"eq-{owner.name}-{n}"
            if not comment and owner == definition and anchor not in self.written:
                self.written.add(anchor)
                return self._equation_number(owner, n, anchor)
            return f'<a href="#{anchor}">({n})</a>'

        outer = definition.name.partition(".")[0] if definition is not None else ""
        symbols = self.symbols.get(outer, {})
        variables = self.variables.get(outer, frozenset())
        return Typesetter(self.letters, symbols, number, lambda name: self.known.anywhere(self.page, name), variables)

    def _equation_number(self, owner: Definition, n: int, anchor: str) -> str:
        lines = self.numbers.equations[owner.name, n]
        if not lines:
            return f'<span class="n" id="{anchor}">({n})</span>'
        first, *more = lines
        also = "".join(f' <a href="#L{line}" title="line {line}">{line}</a>' for line in more)
        also = f'<span class="also">{also}</span>' if also else ""
        return f'<span class="n"><a id="{anchor}" href="#L{first}" title="line {first}">({n})</a>{also}</span>'

    def _pointed(self) -> str:
        """Pointing at an equation lights its lines, and at a line its equation."""
        classes = [f".e-{_slug(name)}-{n}" for (name, n), lines in self.numbers.equations.items() if lines]
        return "\n".join(f"body:has({c}:is(:hover,:focus-within)) {c}{{background:var(--lit)}}" for c in classes)

    def _footer(self) -> str:
        listed = "".join(f"<dt>{letter}</dt><dd>{escape(says)}</dd>" for letter, says in self.letters.items())
        return (
            f'<footer><h2>Axis letters</h2><dl class="legend">{listed}</dl>'
            "<p>The gradient of z is dz. Made from the sources by <code>npora study</code>.</p></footer>"
        )


def _slug(name: str) -> str:
    return name.replace(".", "-")


def _lines_of_the_docstring(page: Page) -> range:
    body = page.tree.body
    return range(body[0].lineno, (body[0].end_lineno or 0) + 1) if page.doc else range(0)
