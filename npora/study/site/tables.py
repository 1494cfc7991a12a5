"""A verdict of gradcheck as HTML."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from npora.check.verdict.comparison import WRONG
from npora.study.site.charts import brief, small, v_chart
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
        f"<li>{_badge('PASS')} {escape(_PLURAL.get(m, m))}: {'; '.join(map(scripts, n))}</li>" for m, n in held.items()
    ]
    notes += [
        f"<li>{_badge(r['verdict'])} {scripts(r['name'])}: {scripts(r['note'] or '')}</li>"
        for r in rows if r["verdict"] != "PASS"
    ]  # fmt: skip
    notes += [f"<li>{scripts(note)}</li>" for note in verdict["notes"]]
    head = "".join(f'<th scope="col">{name}</th>' for name in _HEAD)
    about = (
        f'<p class="about">The worst element of each gradient of {escape(row)}: what backward gave (analytic), what it '
        f"should be (numeric), their difference over what is allowed, and the least relative error that would have "
        f"been caught.</p>"
    )
    table = f"{about}<table><thead><tr>{head}</tr></thead><tbody>{''.join(cells)}</tbody></table>" if cells else ""
    opened = " open" if is_open or verdict["verdict"] != "PASS" else ""
    is_row = "replay" in verdict
    again = f'<p class="again">Run it: <code>npora gradcheck {escape(_quoted(row))}</code></p>' if is_row else ""
    if table:
        table = f'<div class="scroll" tabindex="0" role="region" aria-label="Check of {escape(row)}">{table}</div>'
    return (
        f"<details{opened}><summary>{_badge(verdict['verdict'])} {escape(row)}</summary>"
        f"{table}<ul>{''.join(notes)}</ul>{again}"
        f"{_curve(row, verdict.get('curve'))}{_planted(row, verdict.get('planted'), is_row)}</details>"
    )


_PLURAL = {"identity": "identities", "property": "properties"}


def _curve(row: str, curve: dict[str, Any] | None) -> str:
    if not curve:
        return ""
    what = f"{row} by {curve['of']}" if "of" in curve else row
    chart = v_chart(curve["steps"], curve["errors"], what)
    return (
        f"<details><summary>V-curve: how well a difference can tell the derivative of {scripts(what)}</summary>"
        "<p>With a large step h a formula is wrong, unless the function is a straight line; with a small one rounding "
        "is all that is left. The complex step has no second branch. "
        f"<code>npora vcurve {escape(_quoted(row))}</code></p>{chart}</details>"
    )


def _planted(row: str, planted: dict[str, Any] | None, is_row: bool) -> str:
    """Break it: each kind of error that can be planted here, what the check says of it, and what a training run does
    with it. is_row : of the catalogue, so that there is a command for it."""
    if not planted or not planted["errors"]:
        return ""
    found, right = planted["errors"], planted["loss"]
    head = "".join(f'<th scope="col">{n}</th>' for n in ("error", "in the gradient of", "verdict", "loss", "it says"))
    body = "".join(
        f'<tr><th scope="row">{scripts(p["error"])}</th><td>{scripts(p["in"])}</td><td>{_badge(p["verdict"])}</td>'
        f"<td>{small(right, p['loss'])} {_ended(right, p['loss'])}</td><td>{_told(p)}</td></tr>"
        for p in found
    )
    caught = sum(p["verdict"] in WRONG for p in found)
    command = f" (<code>npora gradcheck {escape(_quoted(row))} --break KIND</code>)" if is_row else ""
    checked = (
        f"in another layer of a copy, which is checked with all else frozen{command}"
        if planted.get("by_layer") else f"in a copy, which is checked as your own code would be{command}"
    )  # fmt: skip
    title = f"Break it: {len(found)} errors planted in {escape(row)}, {caught} found"
    return (
        f'<details><summary>{title}</summary><div class="scroll" tabindex="0" role="region" aria-label="{title}">'
        f'<p class="about">Each is planted {checked}. The loss, on a logarithmic scale, is that of {len(right)} steps '
        f"at the rate {planted['rate']:g}: the dashed line is what is right and ends at {brief(right[-1])}, the whole "
        f"one has the planted error.</p>"
        f'<table class="broken"><thead><tr>{head}</tr></thead><tbody class="words">{body}</tbody></table>'
        "</div></details>"
    )


def _told(error: dict[str, Any]) -> str:
    """What the check says; of whose gradient stands before it where that is another than the error is in."""
    return scripts(error["said"].removeprefix(f"{error['in']}: "))


def _ended(right: list[float], wrong: list[float]) -> str:
    """Where the loss came to, and whether it tells the error."""
    last, best = wrong[-1], right[-1]
    if not math.isfinite(last):
        return "no number"
    alike = all(abs(a - b) <= 0.05 * max(abs(b), 1e-6 * right[0]) for a, b in zip(wrong, right, strict=True))
    return f"{brief(last)}: it does not show" if alike else brief(last) if last > best else f"{brief(last)}: no worse"


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
