"""What a gradient check found: a row for each input and parameter."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """The worst coordinate of one input or parameter. verdict: PASS, FAIL, or VACUOUS (the reference is zero)."""

    name: str
    shape: tuple[int, ...]
    method: str
    verdict: str
    worst: tuple[int, ...]
    analytic: float
    numeric: float
    error: float  # the largest |analytic − numeric|, over the largest |numeric| of the tensor


@dataclass(frozen=True)
class Report:
    """The rows; true when every one is PASS."""

    rows: tuple[Row, ...]
    seed: int
    tolerance: float

    @property
    def ok(self) -> bool:
        return bool(self.rows) and all(row.verdict == "PASS" for row in self.rows)

    def __bool__(self) -> bool:
        return self.ok

    def raise_if_failed(self) -> None:
        if not self.ok:
            raise AssertionError(f"the gradient check did not pass\n{self}")

    def __str__(self) -> str:
        head = ("name", "shape", "method", "verdict", "worst", "analytic", "numeric", "error")
        cells = [head] + [
            (
                row.name, str(row.shape), row.method, row.verdict, str(row.worst),
                f"{row.analytic:.10g}", f"{row.numeric:.10g}", f"{row.error:.1e}",
            )
            for row in self.rows
        ]  # fmt: skip
        widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
        padded = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in cells)
        table = "\n".join("  ".join(line).rstrip() for line in padded)
        notes = f"seed {self.seed}, tolerance {self.tolerance:.1e} of each tensor's largest gradient"
        if any(row.verdict == "VACUOUS" for row in self.rows):
            notes += "; VACUOUS: the true gradient is zero here, so that any formula times zero passes (is LoRA's B 0?)"
        return f"{table}\n{notes}"
