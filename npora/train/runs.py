"""Runs as their folders tell of them: what was trained, with what, and what each step was."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from npora.files.json import STRICT
from npora.files.regular import open_regular
from npora.train.folder import RUN_NAME, read_about
from npora.train.log import LOG_NAME
from npora.train.plain import unplain

logger = logging.getLogger("npora")

_LONGEST = 1_000_000  # bytes of a line
# What is another each time, of a step and of an evaluation.
_OF_THE_CLOCK = ("seconds", "runtime", "samples_per_second", "steps_per_second")
_NOT_MEASURED = ("step", "epoch", "stopped")


class RecordedRun(NamedTuple):
    """name : of its folder; about : run.json, empty where there is none; entries : of log.jsonl, in order"""

    name: str
    about: Mapping[str, Any]
    entries: list[dict[str, Any]]

    def steps(self, what: str) -> tuple[list[int], list[float]]:
        """The steps whose entries have such a number, and the numbers."""
        found = [(entry["step"], entry[what]) for entry in self.entries if isinstance(entry.get(what), int | float)]
        return [step for step, _ in found], [float(value) for _, value in found]

    def measured(self) -> list[str]:
        """The names of what evaluations have found, beside the time that they took."""
        names = (name for entry in self.entries if "loss" not in entry for name in entry)
        return [
            name for name in dict.fromkeys(names)
            if not name.endswith(_OF_THE_CLOCK) and name not in _NOT_MEASURED and any(self.steps(name))
        ]  # fmt: skip


def read_run(folder: str | os.PathLike[str]) -> RecordedRun:
    """The run whose output_dir this is, also while it goes on.

    Raises
    ------
    FileNotFoundError: there is no log of a run.  ValueError: a log that is none, with the line.
    """
    path, about = os.path.join(folder, LOG_NAME), os.path.join(folder, RUN_NAME)
    try:
        entries = list(_entries(path))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"there is no {path}: a run's folder is the --output of npora finetune, or a Trainer's output_dir"
        ) from None
    return RecordedRun(os.fspath(folder), read_about(folder) if os.path.exists(about) else {}, entries)


def _entries(path: str) -> Iterator[dict[str, Any]]:
    with open_regular(path) as file:
        number = 0
        while line := file.readline(_LONGEST):
            number += 1
            try:
                entry = unplain(json.loads(line, **STRICT))
            except (ValueError, RecursionError) as error:
                if not line.endswith(b"\n") and len(line) < _LONGEST:
                    logger.warning("%s, line %d: it is not whole, and left out", path, number)
                    return
                raise ValueError(f"{path}, line {number}: not JSON: {error}") from None
            if not isinstance(entry, dict) or type(entry.get("step")) is not int:
                raise ValueError(f"{path}, line {number}: an object with a step was expected")
            yield entry


def differences(one: RecordedRun, other: RecordedRun) -> list[tuple[str, str, Any, Any]]:
    """Where two runs part, each as (part, name, the one's, the other's): their arguments, versions, models, data, and
    the first step whose log differs, but for what the clock says. Without any the runs are the same."""
    found = []
    for part in ("arguments", "versions", "adapter", "model", "data"):
        mine, theirs = one.about.get(part) or {}, other.about.get(part) or {}
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name) and (part, name) != ("arguments", "output_dir"):
                found.append((part, name, mine.get(name), theirs.get(name)))
    if one.about.get("base_sha256") != other.about.get("base_sha256"):
        found.append(("model", "base_sha256", one.about.get("base_sha256"), other.about.get("base_sha256")))
    return found + _first_step(one, other)


def _first_step(one: RecordedRun, other: RecordedRun) -> list[tuple[str, str, Any, Any]]:
    for mine, theirs in zip(one.entries, other.entries, strict=False):
        where = f"step {min(mine['step'], theirs['step'])}"
        names = [name for name in {**mine, **theirs} if not name.endswith(_OF_THE_CLOCK)]
        parted = [name for name in names if repr(mine.get(name)) != repr(theirs.get(name))]
        if parted:
            return [(where, name, mine.get(name), theirs.get(name)) for name in parted]
    first, second = (run.entries[-1]["step"] if run.entries else 0 for run in (one, other))
    if len(one.entries) != len(other.entries):
        return [(f"step {min(first, second)}", "the log goes on to step", first, second)]
    return []
