"""Equations and the lines that compute them: each number of a docstring's equation stands in a comment, and back."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from npora.study.site.sources import EQUATION, Definition, Page

NUMBER = re.compile(r"(?<![\w)])\((\d+)\)(?!\w)")


@dataclass(frozen=True)
class Numbers:
    """What the numbers of a page refer to."""

    page: Page

    @cached_property
    def comments(self) -> dict[int, str]:
        tokens = tokenize.generate_tokens(io.StringIO(self.page.text).readline)
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    @cached_property
    def equations(self) -> dict[tuple[str, int], list[int]]:
        """(definition, number) → the lines that carry the number."""
        found: dict[tuple[str, int], list[int]] = {key: [] for d in self._all for key in self.of(d)}
        for line, number in self.numbered_lines():
            owner = self.owner_of_line(line, number)
            if owner is not None:
                found[owner.name, number].append(line)
        return found

    @cached_property
    def _all(self) -> tuple[Definition, ...]:
        """The definitions, and the file itself, whose docstring may have equations for all of them."""
        file = Definition("", 1, len(self.page.text.splitlines()), self.page.doc, range(0), (), frozenset())
        return (*self.page.definitions, file)

    def of(self, definition: Definition) -> list[tuple[str, int]]:
        return [(definition.name, int(number)) for number in EQUATION.findall(definition.doc)]

    def numbered_lines(self) -> Iterator[tuple[int, int]]:
        """(line, number) for each number that a comment begins with or has after another."""
        for line, comment in self.comments.items():
            for number in NUMBER.findall(comment):
                yield line, int(number)

    def owner_of_line(self, line: int, number: int) -> Definition | None:
        """Whose equation it is that a line carries the number of: a definition around it, its base, one that uses the
        function, or the file's."""
        around = self.page.around(line)
        found = self._first(around, number)
        if found is None and around:
            found = self._first([d for d in self.page.outer if around[-1].name in d.names], number)
        return found or self._first([self._all[-1]], number)

    def owner_of_word(self, definition: Definition | None, number: int) -> Definition | None:
        """Whose equation it is that a docstring mentions by its number: its own, or one of the page's."""
        around = [] if definition is None else [definition, *self.page.around(definition.first)]
        return self._first([*around, *self.page.definitions], number)

    def missed(self) -> list[str]:
        """The equations without a line, the lines without an equation, and numbers that are given twice."""
        lines = [
            f"{self.page.name}.py: equation ({number}) of {name or 'the file'} stands on no line"
            for (name, number), found in self.equations.items() if not found
        ]  # fmt: skip
        lines += [
            f"{self.page.name}.py:{line}: no equation has the number ({number})"
            for line, number in self.numbered_lines() if self.owner_of_line(line, number) is None
        ]  # fmt: skip
        for definition in self._all:
            own = self.of(definition)
            lines += [
                f"{self.page.name}.py: {name} has two equations ({n})" for name, n in {*own} if own.count((name, n)) > 1
            ]
        return lines

    def _first(self, definitions: list[Definition], number: int) -> Definition | None:
        for definition in definitions:
            if (definition.name, number) in self.of(definition):
                return definition
            bases = [d for d in self.page.outer if d.name in definition.bases]
            if bases and (found := self._first(bases, number)) is not None:
                return found
        return None
