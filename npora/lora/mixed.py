"""Different adapters for different rows of one batch: PEFT's `adapter_names=`.

No row of a batch depends on another. Where each layer can tell whose its rows are, all go through the model at once
(`by_rows.py`); else those of each adapter by themselves, and what comes of them is put together in the order in which
they were.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from npora.nn.module import Array

BASE = "__base__"  # the name, as in PEFT, for rows that no adapter is for


class _Acting(threading.local):
    """The adapters that act in this thread, in place of those that are active; None for those.

    names : the same for all rows
    rows : one for each, a Rows
    """

    names: tuple[str, ...] | None = None
    rows: Any = None


acting = _Acting()


@contextmanager
def only(name: str) -> Iterator[None]:
    """Within this block, and in this thread, this adapter acts alone; with BASE, none does."""
    before, acting.names = acting.names, () if name == BASE else (name,)
    try:
        yield
    finally:
        acting.names = before


@contextmanager
def rows_acting(rows: Any) -> Iterator[None]:
    """Within this block, and in this thread, each row has the adapter that these Rows say."""
    before, acting.rows = acting.rows, rows
    try:
        yield
    finally:
        acting.rows = before


class UnknownRows(Exception):
    """A layer cannot tell whose the rows are that it is given."""


def by_adapter(
    names: Sequence[str], call: Callable[..., Any], args: Sequence[Any], keywords: Mapping[str, Any]
) -> tuple[dict[str, Array], list[Any]]:
    """Call a function once for each adapter, with its rows of whatever has a row for each name.

    Returns the rows of each adapter, and what was returned.
    """
    rows = {name: np.flatnonzero([other == name for other in names]) for name in dict.fromkeys(names)}
    results = []
    for name, mine in rows.items():
        with only(name):
            some = [_taken(value, mine, len(names)) for value in args]
            results.append(call(*some, **{key: _taken(value, mine, len(names)) for key, value in keywords.items()}))
    return rows, results


def _taken(value: Any, rows: Array, number: int) -> Any:
    """Take rows of an array, or of a list that has a value for each."""
    if isinstance(value, np.ndarray) and value.ndim and len(value) == number:
        return value[rows]
    return [value[row] for row in rows] if isinstance(value, list) and len(value) == number else value


def joined(parts: Sequence[Any], rows: Sequence[Array]) -> Any:
    """Put arrays, or a model's outputs, together again. A loss is the mean over all labels."""
    first = parts[0]
    if isinstance(first, np.ndarray):
        if first.ndim == 0:
            raise ValueError("adapter_names are for a model whose output has a row for each of them")
        whole = np.zeros((sum(map(len, parts)), *first.shape[1:]), np.result_type(*parts))
        for part, mine in zip(parts, rows, strict=True):
            whole[mine] = part
        return whole
    if isinstance(first, tuple):
        return tuple(joined(part, rows) for part in zip(*parts, strict=True))
    if not hasattr(first, "__dict__"):
        return first
    output, numbers = copy.copy(first), [getattr(part, "num_items", 0) for part in parts]
    for name, value in vars(first).items():
        values = [getattr(part, name) for part in parts]
        if name == "loss" and value is not None:
            setattr(output, name, sum(x * n for x, n in zip(values, numbers, strict=True)) / max(sum(numbers), 1))
        elif name == "num_items":
            setattr(output, name, sum(numbers))
        elif isinstance(value, np.ndarray | tuple):
            setattr(output, name, joined(values, rows))
    return output


def texts_joined(parts: Sequence[Array], rows: Sequence[Array], pad: int | None) -> Array:
    """Put generated tokens [b,t] together, the shorter ones filled up with `pad`; several of each row one after
    another."""
    longest, each = max(part.shape[1] for part in parts), len(parts[0]) // len(rows[0])
    if pad is None and any(part.shape[1] < longest for part in parts):
        raise ValueError("the texts of some adapters are longer than others': pass pad_token_id")
    filled = [np.pad(part, ((0, 0), (0, longest - part.shape[1])), constant_values=pad or 0) for part in parts]
    places = [(mine[:, None] * each + np.arange(each)).ravel() for mine in rows]
    return np.asarray(joined(filled, places))


def refuse_backward(*_: Any) -> Any:
    raise RuntimeError("what adapter_names chose for each row is for inference: to train an adapter, set_adapter() it")
