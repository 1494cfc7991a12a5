"""What a gradient check found: a row for each input and parameter, and how to see it again."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from npora.check.plots import heat_maps
from npora.check.verdict import FAIL, KINK, PASS, UNRESOLVED, VACUOUS

MEANING = {
    UNRESOLVED: "too small beside its neighbours for this oracle to tell: rescale the inputs or parameters",
    VACUOUS: "the true gradient is zero here, so that any formula times zero passes: is LoRA's B 0, or dy special?",
    KINK: "no derivative exists here: the slopes to the left and right differ",
}


@dataclass(frozen=True)
class Element:
    """One coordinate: analytic is the pullback's figure, numeric the oracle's."""

    name: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    ratio: float  # |analytic − numeric| over its tolerance


@dataclass(frozen=True)
class Row:
    """One input or parameter, at its worst element, or one property of the pullback as a whole.

    checked : elements compared, of those in `shape`
    caught : the smallest error, relative to the tensor's largest gradient, that would have been a FAIL
    note : what is wrong, where something is
    """

    name: str
    method: str
    verdict: str
    note: str = ""
    shape: tuple[int, ...] = ()
    checked: int = 0
    worst: Element | None = None
    caught: float = math.nan


@dataclass(frozen=True)
class Report:
    """True exactly where every row is PASS; printed, a table and how to run it again."""

    subject: str
    rows: tuple[Row, ...]
    elements: tuple[Element, ...] = ()  # the ten worst
    notes: tuple[str, ...] = ()
    replay: str = ""
    ratios: dict[str, Any] = field(default_factory=dict, repr=False)  # by name, |difference| over tolerance

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.verdict == PASS for row in self.rows)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def verdict(self) -> str:
        """The gravest of the rows' verdicts."""
        found = {row.verdict for row in self.rows}
        return next((verdict for verdict in (FAIL, KINK, UNRESOLVED, VACUOUS) if verdict in found), PASS)

    def __getitem__(self, name: str) -> Row:
        """The row of an input, a parameter or a property."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"there is no row {name!r}; there are {', '.join(row.name for row in self.rows)}")

    def raise_if_failed(self) -> None:
        """Raise AssertionError, with the report as its text, unless every row is PASS."""
        if not self.ok:
            raise AssertionError(f"the gradient check did not pass\n{self}")

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as JSON; written to `path` too, where one is given. A number that is not finite becomes null."""
        content = {
            "subject": self.subject, "verdict": self.verdict, "ok": self.ok,
            "rows": [asdict(row) for row in self.rows],
            "worst": [asdict(element) for element in self.elements],
            "notes": list(self.notes), "replay": self.replay,
        }  # fmt: skip
        text = json.dumps(_finite(content), indent=2, ensure_ascii=False, allow_nan=False)
        if path is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text + "\n")
        return text

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw log₁₀ of |difference| over tolerance for every element (extra `plot`). Returns matplotlib's figure."""
        return heat_maps({f"{name}: {self[name].verdict}": ratio for name, ratio in self.ratios.items()}, path)

    def __str__(self) -> str:
        head = ("name", "shape", "checked", "verdict", "worst", "analytic", "numeric", "diff/tol", "caught", "method")
        lines = [head]
        held: dict[str, list[str]] = {}
        for row in self.rows:
            w = row.worst
            if w is None:
                held.setdefault(row.method, []).extend([row.name] if row.verdict == PASS else [])
            else:
                caught = f"{row.caught:.1e}" if row.caught < 1 else "nothing"
                cells = (str(w.index), f"{w.analytic:.10g}", f"{w.numeric:.10g}", f"{w.ratio:.2g}", caught)
                lines.append((row.name, str(row.shape), str(row.checked), row.verdict, *cells, row.method))
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        table = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines]
        said = [f"PASS {method}: {', '.join(names)}" for method, names in held.items() if names]
        said += [f"{row.verdict} {row.name}: {row.note}" for row in self.rows if row.note and row.verdict != PASS]
        said += [
            f"{verdict}: {text}" for verdict, text in MEANING.items() if any(r.verdict == verdict for r in self.rows)
        ]
        if not self.ok and self.elements:
            said.append("the worst elements (analytic, numeric, difference over tolerance):")
            said += [
                f"  {e.name}{list(e.index)}  {e.analytic:.12g}  {e.numeric:.12g}  {e.ratio:.3g}" for e in self.elements
            ]
        return "\n".join([f"{self.subject}: {self.verdict}", *table, *said, *self.notes, f"again: {self.replay}"])


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
