"""What a command says beside its result, and to an option that it cannot take."""

from __future__ import annotations

import argparse
import contextlib
import sys


def say(text: str) -> None:
    """A line on standard error: standard output has the result alone. Where nobody can read it the work goes on."""
    if sys.stderr is None:  # print() would take standard output for it
        return
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def seed(text: str) -> int:
    """The value of --seed."""
    if not text.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"a seed is a whole number, 0 or more; got {text!r}")
    return int(text)
