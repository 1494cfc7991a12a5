"""What a gradient check found: a row for each input and parameter, and how to see it again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from npora.check.verdict import printed
from npora.check.verdict.comparison import PASS, VACUOUS
from npora.check.verdict.plots import heat_maps
from npora.nn.module import Array


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
    alone : the same where one element alone is wrong, of any tensor that a direction goes through (in 99 of 100 draws)
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
    alone: float = math.nan


@dataclass
class Found:
    """What comparing numbers found."""

    rows: list[Row] = field(default_factory=list)
    elements: list[Element] = field(default_factory=list)
    ratios: dict[str, Array] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def take(self, judged: Iterable[tuple[Row, list[Element], Array]]) -> None:
        for row, elements, ratio in judged:
            self.rows.append(row)
            self.elements += elements
            self.ratios[row.name] = ratio


@dataclass(frozen=True)
class Report:
    """True exactly where every row is PASS; printed, a table and how to run it again. Its repr is one line that says
    what is wrong."""

    subject: str
    rows: tuple[Row, ...]
    elements: tuple[Element, ...] = ()  # the ten worst
    notes: tuple[str, ...] = ()
    replay: str = ""
    ratios: dict[str, Any] = field(
        default_factory=dict, repr=False
    )  # by name, |difference| over tolerance, nan where not looked at

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.verdict == PASS for row in self.rows)

    def __bool__(self) -> bool:
        return self.ok

    @property
    def verdict(self) -> str:
        """The gravest of the rows' verdicts; VACUOUS where there is no row."""
        found = {row.verdict for row in self.rows}
        return next((verdict for verdict in printed.GRAVEST_FIRST if verdict in found), VACUOUS)

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
        return heat_maps([(printed.title(self[name]), ratio) for name, ratio in self.ratios.items()], path)

    def table(self, verbose: bool = False) -> str:
        """What is printed; verbose: with whole names and all digits, however wide that is."""
        return printed.text(self, verbose)

    def __str__(self) -> str:
        return printed.text(self)

    def __repr__(self) -> str:
        return printed.line(self)

    def _repr_html_(self) -> str:
        return printed.html(self)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
