"""The rows of a file as the model is given them: few at once, and many as they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from npora.commands.messages import say
from npora.commands.rows import is_cut, say_cut
from npora.commands.tasks import Task
from npora.data import Dataset, Tokenizer
from npora.data.columns import LazyRows, rows_at
from npora.data.completions import window
from npora.data.dataset import Row
from npora.train.progress import Progress

AT_ONCE = 20_000  # rows of which no more are encoded before the training begins
_BATCH = 256


def encoded(task: Task, rows: Dataset, tokenizer: Tokenizer, length: int | None, what: str) -> Dataset:
    """The rows as the model is given them. Says of how many the end, or of a prompt the beginning, is cut off, and
    where a prompt and the text behind it run into each other.

    Of more than AT_ONCE rows each is encoded when it is asked for, and the first that is cut is told of then.
    """
    if task.name == "causal-lm":
        _say_joined(rows, what)
    if len(rows) > AT_ONCE:
        return Dataset(EncodedRows(task, rows, tokenizer, length, what))
    found: list[Row] = []
    cut = 0
    for start in range(0, len(rows), _BATCH):
        part = rows_at(rows, range(start, min(start + _BATCH, len(rows))))
        for row, parts in zip(part, task.encode_all(part, tokenizer, length), strict=True):
            found += parts
            cut += is_cut(task, row, parts, tokenizer, length)
    say_cut(cut, len(rows), length, what)
    return Dataset(found)


class EncodedRows(LazyRows):
    """Rows that are encoded each time that they are asked for, many in one call of the tokenizer.

    Where long texts become windows, how many there are must be known beforehand: the texts that may be too long for one
    are encoded at the beginning, and their ids alone are kept.
    """

    def __init__(self, task: Task, rows: Dataset, tokenizer: Tokenizer, length: int | None, what: str) -> None:
        self.task, self.rows, self.tokenizer, self.length, self.what = task, rows, tokenizer, length, what
        self._has_told = False
        self._long: dict[int, Any] = {}  # the ids of texts of several windows
        self._owner: Any = None  # the number of each window's row
        self._first: Any = None  # the number of each row's first window
        if task.name == "causal-lm" and length is not None and "prompt" not in rows.column_names:
            self._count_windows(length)

    def _count_windows(self, length: int) -> None:
        counts = np.ones(len(self.rows), np.int64)
        progress = Progress(len(self.rows), "row")
        for number, row in enumerate(self.rows):
            if _may_have_more(row["text"], length):
                (whole,) = self.task.encode(row, self.tokenizer, None)
                counts[number] = 1 + max(0, -(-(len(whole["input_ids"]) - length) // (length - 1)))
                if counts[number] > 1:
                    self._long[number] = np.array(whole["input_ids"], np.int32)
            if number % _BATCH == 0:
                progress.step(number)
        progress.close()
        if self._long:
            self._owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
            self._first = np.cumsum(counts) - counts

    def __len__(self) -> int:
        return len(self.rows) if self._owner is None else len(self._owner)

    def __getitems__(self, numbers: Sequence[int]) -> list[Row]:
        owners = [int(n) if self._owner is None else int(self._owner[n]) for n in numbers]
        short = [owner for owner in owners if owner not in self._long]
        rows = rows_at(self.rows, short)
        made = iter(self.task.encode_all(rows, self.tokenizer, self.length) if rows else [])
        source = iter(rows)
        return [
            self._window(owner, number) if owner in self._long else self._whole(next(source), next(made), owner)
            for owner, number in zip(owners, numbers, strict=True)
        ]

    def _window(self, owner: int, number: int) -> Row:
        assert self.length is not None, "windows of no length"
        ids = self._long[owner].tolist()
        return dict(window(ids, ids, self.length, int(number - self._first[owner])))

    def _whole(self, row: Row, parts: Sequence[Row], number: int) -> Row:
        if not self._has_told and (len(parts) > 1 or is_cut(self.task, row, parts, self.tokenizer, self.length)):
            self._has_told = True
            say(
                f"{self.what}: a row has more than {self.length} tokens and is cut to that (--max-length), as are "
                f"others like it: {row['text'][:40]!r}…"
            )
        return parts[0]

    def take(self, numbers: Iterable[int]) -> LazyRows:
        raise NotImplementedError("rows are chosen before they are encoded")


def _may_have_more(text: str, length: int) -> bool:
    """Whether a text may have more tokens than `length`, what a tokenizer puts around it included. None has more than
    bytes, but where a tokenizer takes characters apart first: by three times hardly any text."""
    return len(text.encode("utf-8", "surrogatepass")) * (1 if text.isascii() else 3) + 8 > length


def _say_joined(rows: Dataset, what: str) -> None:
    if "prompt" not in rows.column_names:
        return
    count, example = 0, ""
    for row in rows:
        joined = row["prompt"][-1:] + row["text"][:1]
        if joined.isascii() and joined[:1].isalnum() and row["prompt"] and joined[1:].isalnum():
            count += 1
            example = example or row["prompt"][-20:] + row["text"][:20]
    if count:
        say(
            f"{what}: in {count:,} of {len(rows):,} rows the text stands behind its prompt without a space, as in "
            f"{example!r}, and is learnt so: begin the text with a space where one belongs"
        )
