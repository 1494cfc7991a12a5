"""A list of rows with the few methods that a training script calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

Row = dict[str, Any]


class Dataset(Sequence[Row]):
    """Rows as dicts. The methods are those of Hugging Face's `datasets.Dataset` and return new Datasets."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = list(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    @overload
    def __getitem__(self, index: str) -> list[Any]: ...
    def __getitem__(self, index: Any) -> Any:
        """A row by its number, the rows of a slice, or a column by its name."""
        if isinstance(index, str):
            return [row[index] for row in self._rows]
        return Dataset(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    @property
    def column_names(self) -> list[str]:
        return list(self._rows[0]) if self._rows else []

    def map(self, function: Callable[[Row], Row]) -> Dataset:
        """Each row with the keys that `function(row)` returns added to it, or put in their place."""
        return Dataset({**row, **function(row)} for row in self._rows)

    def filter(self, function: Callable[[Row], bool]) -> Dataset:
        return Dataset(row for row in self._rows if function(row))

    def shuffle(self, seed: int) -> Dataset:
        """The rows in an order that `numpy.random.default_rng(seed)` draws."""
        return self.select(np.random.default_rng(seed).permutation(len(self._rows)))

    def select(self, indices: Iterable[int]) -> Dataset:
        return Dataset(self._rows[int(index)] for index in indices)

    def __repr__(self) -> str:
        return f"Dataset({len(self)} rows of {', '.join(self.column_names) or 'nothing'})"
