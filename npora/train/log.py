"""One JSON line for each step, so that a run can be drawn while it goes on and after it broke."""

from __future__ import annotations

import json
import os
from types import TracebackType
from typing import Any

LOG_NAME = "log.jsonl"


class StepLog:
    """output_dir/log.jsonl. A run that resumes after step N keeps the lines up to N and goes on from there."""

    def __init__(self, output_dir: str, step: int) -> None:
        path = os.path.join(output_dir, LOG_NAME)
        kept = _lines_up_to(path, step) if step else []
        self._file = open(path, "w", encoding="utf-8", buffering=1)  # a line is on its way as soon as it is written
        self._file.writelines(kept)

    def write(self, entry: dict[str, Any]) -> None:
        """nan and inf, which JSON lacks, become strings."""
        safe = {k: str(v) if isinstance(v, float) and v - v != 0 else v for k, v in entry.items()}
        self._file.write(json.dumps(safe, default=float) + "\n")

    def __enter__(self) -> StepLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def _lines_up_to(path: str, step: int) -> list[str]:
    kept: list[str] = []
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for line in file:
                try:
                    if json.loads(line)["step"] <= step:
                        kept.append(line)
                except (ValueError, KeyError):  # a line that a crash cut short
                    break
    return kept
