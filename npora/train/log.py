"""One JSON line for each step, so that a run can be drawn while it goes on and after it broke."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any

LOG_NAME = "log.jsonl"


class StepLog:
    """output_dir/log.jsonl, of one run alone.

    A run that resumes after step N begins with the lines up to N of the run it goes on from, which is the log beside
    that run's checkpoint. Any other log in output_dir is an older run's: it is set aside as log-1.jsonl, log-2.jsonl, …
    """

    def __init__(self, output_dir: str, step: int = 0, resumed_from: str | None = None) -> None:
        path = os.path.join(output_dir, LOG_NAME)
        before = os.path.join(resumed_from, LOG_NAME) if resumed_from else None
        kept = _lines_up_to(before, step) if before else []
        if os.path.exists(path) and not (before and os.path.exists(before) and os.path.samefile(before, path)):
            os.replace(path, _free_name(path))
        self._file = open(path, "w", encoding="utf-8", buffering=1)  # a line is on its way as soon as it is written
        self._file.writelines(kept)

    def write(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(plain(entry)) + "\n")

    def __enter__(self) -> StepLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


def plain(value: Any) -> Any:
    """The value in a form that JSON can hold: NumPy's numbers and arrays as Python's; what JSON lacks, as nan and inf,
    as strings."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def unplain(value: Any) -> Any:
    """What plain() made of nan and inf, as the floats that they were."""
    if isinstance(value, dict):
        return {key: unplain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unplain(item) for item in value]
    return float(value) if value in ("nan", "inf", "-inf") else value


def _free_name(path: str) -> str:
    stem, ending = os.path.splitext(path)
    return next(name for i in itertools.count(1) if not os.path.exists(name := f"{stem}-{i}{ending}"))


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
