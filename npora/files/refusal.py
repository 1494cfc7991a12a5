"""How a file that cannot be used is refused: with a ValueError or an OSError whose message names it.

There is no other kind: who reads files of others catches these two, and whatever else a reader raises is an error of
npora's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Refuse = Callable[[ValueError], None]


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let a ValueError raised inside, which says what is wrong with a value, name the file that the value is from."""
    name = os.fspath(path)
    try:
        yield
    except ValueError as error:
        if name in str(error):
            raise
        said = str(error).removeprefix("config: ").removeprefix(os.path.basename(name) + ": ")
        raise ValueError(f"{name}: {said}") from None


def raise_it(error: ValueError) -> None:
    """What becomes of a row that cannot be used, unless who reads wants to be told of all of them."""
    raise error


def shortened(value: Any, most: int = 60) -> str:
    """How a value is shown in an error."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply, or an int of too many digits
        return f"a {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 1]}…"
