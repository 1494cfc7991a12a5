"""Standard input, read as a file of text is."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from npora.data.lines import lines_of


def lines() -> Iterator[str]:
    """Its lines as they come, each with its end. They are UTF-8 in every locale.

    Raises
    ------
    ValueError: what comes is no text, with its line.
    """
    if sys.stdin is None:  # it is closed
        return
    if (raw := getattr(sys.stdin, "buffer", None)) is None:  # a program has put another object there
        yield from sys.stdin
        return
    for _, line in lines_of(raw, "standard input"):
        yield line
