"""When a sequence is at its end: transformers' stopping criteria.

Each is a function of all ids so far, [b,t], and of scores, which are None, and returns for each sequence whether it has
come to an end, [b], or the same for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from npora.nn.module import Array

Criterion = Callable[[Array, None], Any]
_PART = "�"  # what a decoder makes of a character whose last bytes are still to come


class Ending(NamedTuple):
    """most : tokens at most; ends : ids int [·] that end a sequence; pad : fills it up; stop : ids [b,t] → bool [b]"""

    most: int
    ends: Array
    pad: int
    stop: Callable[[Array], Array] | None = None


def stop_strings(strings: Sequence[str], tokenizer: Any) -> Criterion:
    """Where one of the strings stands in the text, and the last token has a part in it."""
    width = 1 + max(len(string.encode()) for string in strings)  # a token is a byte at least; one before them

    def is_there(ids: Array) -> bool:
        tail = [int(token) for token in ids[-width:]]
        text, before = (tokenizer.decode(some, skip_special_tokens=False) for some in (tail, tail[:-1]))
        old = len(before.rstrip(_PART))
        return any(string in text[max(0, old - len(string) + 1) :] for string in strings)

    return lambda ids, scores: np.array([is_there(row) for row in ids])


def max_time(seconds: float) -> Criterion:
    """After so many seconds, from now."""
    began = time.monotonic()
    return lambda ids, scores: time.monotonic() - began > seconds


def stopping(chosen: Mapping[str, Any], tokenizer: Any) -> Callable[[Array], Array] | None:
    """ids [b,t] → bool [b], whether one of the criteria that the options ask for holds; None where they ask for none.

    Raises
    ------
    ValueError: stop_strings without a tokenizer.
    """
    criteria: list[Criterion] = []
    if chosen["max_time"] is not None:
        criteria.append(max_time(chosen["max_time"]))
    if strings := chosen["stop_strings"]:
        if tokenizer is None:
            raise ValueError("stop_strings are found in what the tokenizer decodes: pass tokenizer= too")
        criteria.append(stop_strings([strings] if isinstance(strings, str) else list(strings), tokenizer))
    criteria.extend(chosen["stopping_criteria"] or ())

    def stop(ids: Array) -> Array:
        stopped = np.zeros(len(ids), dtype=bool)
        for criterion in criteria:
            found = np.asarray(criterion(ids, None))
            if found.shape not in ((), stopped.shape):
                raise ValueError(f"a stopping criterion must return a bool for each of {len(ids)} sequences, or for "
                                 f"all; got {list(found.shape)}")  # fmt: skip
            stopped |= found.astype(bool)
        return stopped

    return stop if criteria else None
