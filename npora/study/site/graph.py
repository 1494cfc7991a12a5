"""A flow as a drawing: a value is a box with its shape, below what it is computed from, and leads to its line."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from npora.study.site.flow import Flow, Node, depth, flows_of
from npora.study.site.numbers import Numbers
from npora.study.site.sources import Definition

_LETTER, _HEIGHT, _GAP, _DOWN = 7.4, 44, 18, 40  # a letter's width; boxes, and what is between them
_CODE = 30  # letters of code in a box


def graph_html(numbers: Numbers, definition: Definition, symbols: Mapping[str, str]) -> str:
    """Both graphs of a definition; "" for what has no backward of its own."""
    flows = flows_of(numbers, definition, symbols)
    if flows is None:
        return ""
    name = escape(definition.name)
    drawn = "".join(
        f'<figure><figcaption>{title}</figcaption><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{title} of {name}">{_svg(flow, f"{title} of {name}")}</div></figure>'
        for title, flow in zip(("Forward", "Backward"), flows, strict=True)
    )
    return (
        f'<details class="graph"><summary>Graph of {name}: forward and backward, with shapes</summary>'
        "<p>Each box is a value: its name, shape, equations and code. Dashed is what backward keeps "
        f'from forward, thick what comes out. A loop is drawn once.</p><div class="both">{drawn}</div></details>'
    )


def _svg(flow: Flow, title: str) -> str:
    levels = depth(flow)
    first = min(levels)
    rows = [[at for at, level in enumerate(levels) if level == k] for k in range(first, max(levels) + 1)]
    widths = [max(len(_head(node)), len(_code(node))) * _LETTER + 18 for node in flow.nodes]
    whole = max(sum(widths[at] for at in row) + _GAP * (len(row) - 1) for row in rows)
    middle: dict[int, float] = {}
    top = {at: k * (_HEIGHT + _DOWN) + 4 for k, row in enumerate(rows) for at in row}
    for row in rows:
        row.sort(key=lambda at: _wanted(flow.nodes[at], middle, whole))
        x = (whole - sum(widths[at] for at in row) - _GAP * (len(row) - 1)) / 2
        for at in row:
            middle[at] = x + widths[at] / 2
            x += widths[at] + _GAP
    lines = [
        f'<path d="M{middle[a]:.0f} {top[a] + _HEIGHT}C{middle[a]:.0f} {top[a] + _HEIGHT + 22} '
        f'{middle[b]:.0f} {top[b] - 24} {middle[b]:.0f} {top[b] - 2}"/>'
        for b, node in enumerate(flow.nodes) for a in node.reads
    ]  # fmt: skip
    boxes = [_box(node, middle[at] - widths[at] / 2, top[at], widths[at]) for at, node in enumerate(flow.nodes)]
    height = len(rows) * (_HEIGHT + _DOWN) - _DOWN + 8
    return (
        f'<svg viewBox="-4 0 {whole + 8:.0f} {height}" width="{whole + 8:.0f}" height="{height}" role="group" '
        f'aria-label="{title}"><g class="edges" aria-hidden="true">{"".join(lines)}</g>{"".join(boxes)}</svg>'
    )


def _wanted(node: Node, middle: Mapping[int, float], whole: float) -> float:
    """Below the middle of what it reads."""
    above = [middle[at] for at in node.reads if at in middle]
    return sum(above) / len(above) if above else whole / 2


def _box(node: Node, x: float, y: float, width: float) -> str:
    centre = x + width / 2
    code = f'<text class="code" x="{centre:.0f}" y="{y + 36}">{escape(_code(node))}</text>' if node.code else ""
    down = 19 if node.code else 27
    return (
        f'<a href="#L{node.line}"><rect class="{node.kind}" x="{x:.0f}" y="{y}" width="{width:.0f}" height="{_HEIGHT}" '
        f'rx="5"/><text x="{centre:.0f}" y="{y + down}">{escape(_head(node))}</text> {code}</a>'
    )


def _head(node: Node) -> str:
    return " ".join(filter(None, [node.label, node.shape, *(f"({n})" for n in node.numbers)]))


def _code(node: Node) -> str:
    code = node.code.split("\n")[0]
    return code if len(code) <= _CODE else f"{code[: _CODE - 1]}…"
