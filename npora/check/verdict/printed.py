"""A report in words: a table for a terminal, the same for a notebook, and one line for a failed assertion."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, TypeAlias

from npora.check.verdict.comparison import DETACHED, FAIL, KINK, PASS, UNRESOLVED, VACUOUS

Report: TypeAlias = Any  # of report.py, which prints by what stands here
Row: TypeAlias = Any
WIDTH = 100  # columns of a terminal
LINE = 230  # characters of a value that pytest shows whole
GRAVEST_FIRST = (FAIL, DETACHED, KINK, UNRESOLVED, VACUOUS, PASS)
MEANING = {
    UNRESOLVED: "too small beside its neighbours for this oracle to tell: rescale the inputs or parameters",
    VACUOUS: "the true gradient is zero here, so that any formula times zero passes: is LoRA's B 0, or dy special?",
    DETACHED: "no gradient came, or zeros throughout, where the right one is not zero",
    KINK: "no derivative exists here: the slopes to the left and right differ",
}
RED, AMBER = "#c62828", "#b26a00"
COLOURS = {PASS: "#2e7d32", FAIL: RED, DETACHED: RED, KINK: RED, UNRESOLVED: AMBER, VACUOUS: AMBER}


def text(report: Report, verbose: bool = False) -> str:
    """The table, at most 100 columns wide; verbose: as wide as it takes, with all digits."""
    tables = [_columns(_table(report, digits), 0 if verbose else WIDTH) for digits in ((17,) if verbose else (6, 3))]
    table = next((table for table in tables if max(map(len, table), default=0) <= WIDTH), tables[-1])
    lines = [_head(report), *table, *said(report)]
    if not report.ok and report.elements:
        lines.append("the worst elements (analytic, numeric, difference over tolerance):")
        digits = 17 if verbose else 12
        worst = [
            (e.name + _place(e.index), f"{e.analytic:.{digits}g}", f"{e.numeric:.{digits}g}", f"{e.ratio:.3g}")
            for e in report.elements
        ]
        lines += [f"  {line}" for line in _columns(worst, 0 if verbose else WIDTH - 2)]
    return "\n".join([*lines, *wrapped(f"again: {report.replay}")])


def html(report: Report) -> str:
    """The table and the notes, as a notebook shows them."""
    table = _table(report, digits=6)
    cells = [f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>" for head in table[:1]]
    for row in table[1:]:
        coloured = (f'<td style="color:{COLOURS[c]}">' if c in COLOURS else "<td>" for c in row)
        cells.append(f"<tr>{''.join(f'{start}{escape(c)}</td>' for start, c in zip(coloured, row, strict=True))}</tr>")
    coloured_title = f'<b style="color:{COLOURS[report.verdict]}">{escape(_head(report))}</b>'
    notes = "<br>".join(escape(" ".join(line.split())) for line in [*said(report), f"again: {report.replay}"])
    return f"{coloured_title}<table>{''.join(cells)}</table>{notes}"


def line(report: Report) -> str:
    """The verdict and what is wrong, in what pytest shows of a value, 240 characters, without cutting it."""
    found = [row for row in report.rows if row.verdict != PASS]
    found.sort(key=lambda row: GRAVEST_FIRST.index(row.verdict))
    start, end = f"Report({report.subject}: {report.verdict}", ")"
    if not found:
        return f"{start}, {len(report.rows)} rows{end}"
    words = [f"{row.name}: {row.note or row.verdict}" for row in found]
    for count in range(len(words), 0, -1):
        left = f"; and {len(words) - count} more, which str(report) names" if count < len(words) else ""
        whole = f"{start}; {'; '.join(words[:count])}{left}{end}"
        if len(whole) <= LINE:
            return whole
    left = f" …; str(report) says all{end}"
    return f"{start}; {words[0]}"[: LINE - len(left)] + left


def said(report: Report) -> Iterator[str]:
    """What stands under the table: the properties that hold, what is wrong and why, what the verdicts mean, notes."""
    held: dict[str, list[str]] = {}
    for row in report.rows:
        if row.worst is None and row.verdict == PASS:
            held.setdefault(row.method, []).append(row.name)
    lines = [f"PASS {method}: {', '.join(names)}" for method, names in held.items()]
    lines += [f"{row.verdict} {row.name}: {row.note}" for row in report.rows if row.note and row.verdict != PASS]
    verdicts = {row.verdict for row in report.rows}
    lines += [f"{verdict}: {meaning}" for verdict, meaning in MEANING.items() if verdict in verdicts]
    for each in [*lines, *report.notes]:
        yield from wrapped(each)


def wrapped(words: str) -> list[str]:
    """Lines of at most 100 columns; those after the first are indented."""
    return textwrap.wrap(
        words, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    ) or [""]


def _head(report: Report) -> str:
    """Subject and verdict, with the oracles of the rows that compared numbers."""
    oracles = ", ".join(dict.fromkeys(row.method for row in report.rows if row.worst is not None))
    return f"{report.subject}: {report.verdict}" + (f" ({oracles})" if oracles else "")


def _table(report: Report, digits: int) -> list[tuple[str, ...]]:
    """A head of cells, and the cells of each row that compared numbers; nothing where there is none."""
    lines: list[tuple[str, ...]] = []
    for row in report.rows:
        if (w := row.worst) is not None:
            lines = lines or [("name", "shape", "verdict", "worst at", "analytic", "numeric", "diff/tol", "caught")]
            caught = f"{row.caught:.1e}" if row.caught < 1 else "nothing"
            numbers = f"{w.analytic:.{digits}g}", f"{w.numeric:.{digits}g}", f"{w.ratio:.2g}"
            lines.append((row.name, _shape(row), row.verdict, _place(w.index), *numbers, caught))
    return lines


def _place(index: Sequence[int]) -> str:
    return f"[{','.join(map(str, index))}]" if index else ""


def title(row: Row) -> str:
    """Above a map of a row's elements: its name, cut on its left, then shape and verdict."""
    name = row.name if len(row.name) <= 48 else f"…{row.name[-47:]}"
    return f"{name}\n{_shape(row)}: {row.verdict}"


def _shape(row: Row) -> str:
    shape = _place(row.shape) or "[]"
    return shape if row.checked >= math.prod(row.shape) else f"{row.checked} of {shape}"


def _columns(lines: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """Cells in columns. A name for which `width` leaves no room stands on a line of its own; 0: as wide as it takes."""
    if not lines:
        return []
    widths = [max(len(line[column]) for line in lines) for column in range(1, len(lines[0]))]
    room = width - sum(widths) - 2 * len(widths) if width else max(len(name) for name, *_ in lines)
    longest = max((len(name) for name, *_ in lines if len(name) <= room), default=0)
    found = []
    for name, *rest in lines:
        if len(name) > room:
            found.append(name if len(name) <= width else f"…{name[1 - width :]}")
            name = ""
        cells = (cell.ljust(w) for cell, w in zip(rest, widths, strict=True))
        found.append("  ".join([name.ljust(longest), *cells]).rstrip())
    return found
