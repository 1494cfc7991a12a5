"""A verdict of gradcheck as HTML."""

from __future__ import annotations

from html import escape
from typing import Any

from npora.check.verdict.comparison import WRONG
from npora.study.site.formulas import scripts

_HEAD = ("gradient", "shape", "verdict", "worst at", "analytic", "numeric", "diff/tol", "caught")


def verdict_html(row: str, verdict: dict[str, Any], is_open: bool) -> str:
    """The verdict of a row of the catalogue, folded unless it is the first or not a PASS."""
    rows = verdict["rows"]
    cells = [_cells(r) for r in rows if r["worst"] is not None]
    held: dict[str, list[str]] = {}
    for r in rows:
        if r["worst"] is None and r["verdict"] == "PASS":
            held.setdefault(r["method"], []).append(r["name"])
    notes = [
        f"<li>{_badge('PASS')} {escape(_PLURAL.get(m, m))}: {', '.join(map(scripts, n))}</li>" for m, n in held.items()
    ]
    notes += [
        f"<li>{_badge(r['verdict'])} {scripts(r['name'])}: {scripts(r['note'] or '')}</li>"
        for r in rows if r["verdict"] != "PASS"
    ]  # fmt: skip
    notes += [f"<li>{scripts(note)}</li>" for note in verdict["notes"]]
    head = "".join(f'<th scope="col">{name}</th>' for name in _HEAD)
    caption = f"<caption>The worst element of each gradient of {escape(row)}</caption>"
    table = f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{''.join(cells)}</tbody></table>" if cells else ""
    opened = " open" if is_open or verdict["verdict"] != "PASS" else ""
    return (
        f"<details{opened}><summary>{_badge(verdict['verdict'])} {escape(row)}</summary>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="Check of {escape(row)}">{table}</div>'
        f'<ul>{"".join(notes)}</ul><p class="again"><code>npora gradcheck {escape(_quoted(row))}</code></p>'
        f"{_planted(row, verdict.get('planted', []))}</details>"
    )


_PLURAL = {"identity": "identities", "property": "properties"}


def _planted(row: str, found: list[dict[str, str]]) -> str:
    """Break it: each kind of error that can be planted here, and what the check says of it."""
    if not found:
        return ""
    head = "".join(f'<th scope="col">{name}</th>' for name in ("error", "in the gradient of", "verdict", "it says"))
    body = "".join(
        f'<tr><th scope="row">{scripts(p["error"])}</th><td>{scripts(p["in"])}</td><td>{_badge(p["verdict"])}</td>'
        f"<td>{scripts(p['said'])}</td></tr>" for p in found
    )  # fmt: skip
    caught = sum(p["verdict"] in WRONG for p in found)
    title = f"Break it: {len(found)} errors planted in {escape(row)}, {caught} found"
    return (
        f'<details><summary>{title}</summary><div class="scroll" tabindex="0" role="region" aria-label="{title}">'
        "<table><caption>Each is planted in a copy of the layer, and is checked as your own code would be: "
        f"<code>npora gradcheck {escape(_quoted(row))} --break KIND</code></caption>"
        f'<thead><tr>{head}</tr></thead><tbody class="words">{body}</tbody></table></div></details>'
    )


def _cells(row: dict[str, Any]) -> str:
    worst = row["worst"]
    shape = f"[{','.join(map(str, row['shape']))}]"
    numbers = [_number(worst["analytic"], ".6g"), _number(worst["numeric"], ".6g"), _number(worst["ratio"], ".2g")]
    caught = _number(row["caught"], ".1e")
    place = f"[{','.join(map(str, worst['index']))}]"
    cells = [shape, _badge(row["verdict"]), place, *map(escape, numbers), caught]
    return f'<tr><th scope="row">{scripts(row["name"])}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _number(value: float | None, form: str) -> str:
    return "nothing" if value is None else format(value, form)


def _badge(verdict: str) -> str:
    return f'<b class="{escape(verdict)}">{escape(verdict)}</b>'


def _quoted(row: str) -> str:
    return row if row.isidentifier() else f'"{row}"'
