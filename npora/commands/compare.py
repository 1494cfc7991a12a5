"""Say where two runs part: arguments, versions, base, data, and the first step whose log differs.

The exit code is 0 where they are the same, but for the time that they took, and 1 where they are not.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from npora.files.refusal import shortened
from npora.train.plain import plain
from npora.train.runs import differences, read_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name in ("one", "other"):
        parser.add_argument(name, metavar="DIR", help="a run's folder: finetune's --output, or a Trainer's output_dir")


def run(options: argparse.Namespace) -> int:
    runs = [read_run(folder) for folder in (options.one, options.other)]
    found = differences(*runs)
    if not found:
        steps = runs[0].entries[-1]["step"] if runs[0].entries else 0
        print(f"the runs are the same: arguments, versions, base, data, and {steps:,} steps")
        return 0
    heading = ""
    for part, name, mine, theirs in found:
        if part != heading:
            print(part)
            heading = part
        print(f"  {name:28} {_said(mine)}  |  {_said(theirs)}")
    if not found[-1][0].startswith("step"):
        print("the logs are the same, as far as both go")
    return 1


def _said(value: Any) -> str:
    return "–" if value is None else shortened(value) if isinstance(value, str) else json.dumps(plain(value))
