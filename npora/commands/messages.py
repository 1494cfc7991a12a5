"""What a command says beside its result."""

from __future__ import annotations

import sys


def say(text: str) -> None:
    """A line on standard error: standard output has the result alone."""
    print(text, file=sys.stderr, flush=True)
