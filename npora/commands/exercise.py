"""Write the backward yourself: exercises from relu to LoRA, judged by npora's own gradient check.

`list` names them, `start NAME` writes a file with the forward and an empty backward, `check FILE` judges what you
wrote, and `hint NAME` says a little more each time, up to three times.

Exits with 0 where every answer is right, 1 where one is wrong, 2 where one cannot be run, and on wrong usage. Answers
run in this process, as any Python does. What was solved is kept in exercises.json in $NPORA_CACHE, or in `npora` in
the user's cache folder.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from npora.files.atomic import write_atomically
from npora.files.cache import cache_folder
from npora.study import exercise, progress
from npora.study.exercises import THEMES

ACTIONS = ("list", "start", "check", "hint")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("action", choices=ACTIONS, help="what to do")
    add("names", nargs="*", metavar="NAME|FILE", help="of start and hint, an exercise; of check, files")


def run(options: argparse.Namespace) -> int:
    action, names, record = options.action, options.names, cache_folder() / "exercises.json"
    if action == "list":
        if names:
            raise ValueError(f"list takes no name; got {' '.join(names)}")
        print("\n".join(_listed(progress.read(record))))
        return 0
    if action == "check":
        if not names:
            raise ValueError("name the files to check, as in npora exercise check softmax.py")
        return max(_checked(path, record) for path in names)
    if len(names) != 1:
        raise ValueError(f"{action} takes one exercise, as in npora exercise {action} softmax; got {len(names)}")
    if action == "hint":
        exercise.statement(names[0])  # an error now, and not in the record
        step = progress.next_hint(record, names[0], exercise.HINTS)
        print(f"hint {step} of {exercise.HINTS}: {exercise.hint(names[0], step)}")
        return 0
    return _started(names[0])


def _started(name: str) -> int:
    text, path = exercise.statement(name), f"{name}.py"
    if os.path.lexists(path):
        raise FileExistsError(f"{path} is there already: move it away to begin again")
    write_atomically(path, [text.encode()])
    print(f"{path} is written: read it, write {'backward' if 'def backward' in text else name}, and then")
    print(f"  npora exercise check {path}")
    return 0


def _checked(path: str, record: Path) -> int:
    outcome = exercise.check_file(path)
    print(outcome)
    if outcome.exercise in exercise.names():
        progress.tried(record, outcome.exercise, bool(outcome))
    return outcome.code


def _listed(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    for theme, members in THEMES.items():
        lines.append(theme)
        for member in members:
            entry = found.get(member.name, {})
            state = "right" if entry.get("right") else "tried" if entry.get("tries") else ""
            formula = (member.given.__doc__ or "").splitlines()[0].partition("    ")[0]
            lines.append(f"  {state:7}{member.name:22}{formula}".rstrip())
    right = sum(bool(entry.get("right")) for entry in found.values())
    return [*lines, f"{right} of {len(exercise.names())} are right; begin with: npora exercise start relu"]
