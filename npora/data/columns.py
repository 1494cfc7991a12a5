"""Examples that are made when they are asked for: of columns that take little memory, or by a function of other
examples."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, overload

import numpy as np

from npora.data.fingerprint import fingerprint as fingerprint_of
from npora.data.fingerprint import sha256_of, spread, text_of
from npora.data.strings import Strings
from npora.nn.module import Array

Example = dict[str, Any]
Transform = Callable[[dict[str, list[Any]]], Mapping[str, Sequence[Any]]]

_AT_ONCE = 256  # examples that are made together where all are gone through


class LazyExamples(Sequence[Example]):
    """Examples by their numbers. Subclasses make several at once."""

    @cached_property
    def names(self) -> list[str]:
        """What an example holds, as the first one tells, which is made for that."""
        return list(self[0]) if len(self) else []

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} does not say how many examples it has")

    def __getitems__(self, numbers: Sequence[int]) -> list[Example]:
        """The examples of these numbers: what PyTorch's loaders and Hugging Face's datasets have under this name."""
        raise NotImplementedError(f"{type(self).__name__} makes no examples")

    def column(self, name: str) -> list[Any]:
        return [example.get(name) for example in self]

    def take(self, numbers: Iterable[int]) -> LazyExamples:
        """These examples, in this order, of which none is made."""
        raise NotImplementedError(f"{type(self).__name__} makes no selection")

    def where(self, number: int) -> str:
        """Where an example stands, for an error."""
        return f"example {number}"

    def fingerprint(self) -> dict[str, Any]:
        """What tells these examples from others, as far as that costs less than to make them all: a SHA-256 of what
        they are made from, and what else decides what they are."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it is")

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> LazyExamples: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f"there is no example {index}; there are {len(self)}")
        return self.__getitems__([int(index) % len(self)])[0]

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), _AT_ONCE):
            yield from self.__getitems__(range(start, min(start + _AT_ONCE, len(self))))


class Columns(LazyExamples):
    """The examples of columns of one length, in the order of `order`, or in theirs.

    of : the fingerprint of these columns, where it is known
    where : says of a place in the columns where it stands in a file
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[Any]],
        order: Array | None = None,
        of: Mapping[str, Any] | None = None,
        where: Callable[[int], str] | None = None,
    ) -> None:
        self.columns, self._order, self._of, self._where = dict(columns), order, of, where

    @cached_property
    def names(self) -> list[str]:
        return list(self.columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ())) if self._order is None else len(self._order)

    def __getitems__(self, numbers: Sequence[int]) -> list[Example]:
        places = numbers if self._order is None else self._order[list(numbers)].tolist()
        return [{name: column[place] for name, column in self.columns.items()} for place in places]

    def column(self, name: str) -> list[Any]:
        column = self.columns[name]
        return list(column) if self._order is None else [column[place] for place in self._order.tolist()]

    def fingerprint(self) -> dict[str, Any]:
        """{"sha256": of every value of every column, in order}, or what is known of the columns, with their order."""
        sha = hashlib.sha256()
        if self._of is not None:
            if self._order is None:
                return dict(self._of)
            sha.update(text_of(self._of) + self._order.tobytes())
            return {**self._of, "sha256": sha.hexdigest()}
        for name, column in self.columns.items():
            sha.update(text_of(name))
            for piece in _pieces(column, self._order):
                sha.update(piece)
        return {"sha256": sha.hexdigest()}

    def where(self, number: int) -> str:
        if self._where is None:
            return super().where(number)
        return self._where(number if self._order is None else int(self._order[number]))

    def take(self, numbers: Iterable[int]) -> Columns:
        chosen = np.asarray(numbers if isinstance(numbers, Sequence | np.ndarray) else list(numbers), dtype=np.int64)
        chosen = np.where(chosen < 0, chosen + len(self), chosen)
        if chosen.size and not (0 <= chosen.min() and chosen.max() < len(self)):
            raise IndexError(f"there are {len(self)} examples, and none beyond")
        order = chosen if self._order is None else self._order[chosen]
        return Columns(self.columns, order, self._of, self._where)


class Transformed(LazyExamples):
    """What a function makes of a batch of examples, {name: values} → {name: values}, each time that they are asked
    for."""

    def __init__(self, examples: Sequence[Example], function: Transform, names: Sequence[str]) -> None:
        self.examples, self.function, self.given = examples, function, list(names)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitems__(self, numbers: Sequence[int]) -> list[Example]:
        examples = examples_at(self.examples, numbers)
        made = self.function({name: [example.get(name) for example in examples] for name in self.given})
        if not isinstance(made, Mapping):
            raise TypeError(f"the function of with_transform must return a dict of columns; got {type(made).__name__}")
        return examples_of(made, "the function of with_transform", len(examples))

    def fingerprint(self) -> dict[str, Any]:
        """That of the examples that they are made of, and "made", the SHA-256 of what is made of 256 of these, spread
        over all; None where that is another each time."""
        places = list(spread(len(self)))
        made = [sha256_of(self.__getitems__(places)) if places else "" for _ in range(2)]
        return {**fingerprint_of(self.examples), "made": made[0] if made[0] == made[1] else None}

    def where(self, number: int) -> str:
        return self.examples.where(number) if isinstance(self.examples, LazyExamples) else super().where(number)

    def take(self, numbers: Iterable[int]) -> Transformed:
        kept = (
            self.examples.take(numbers)
            if isinstance(self.examples, LazyExamples)
            else [self.examples[int(i)] for i in numbers]
        )
        return Transformed(kept, self.function, self.given)


def unpacked(texts: Strings, names: Sequence[str], where: Callable[[int], str]) -> Transformed:
    """Examples that are kept as JSON, which takes a fraction of the memory of dicts and lists."""

    def read(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        values = [json.loads(text) for text in columns["json"]]
        return {name: [value[name] for value in values] for name in names}

    return Transformed(Columns({"json": texts}, where=where), read, ["json"])


def examples_at(data: Any, numbers: Sequence[int]) -> list[Any]:
    """The examples of these numbers, at once where the data can give several."""
    if hasattr(data, "__getitems__"):
        return list(data.__getitems__(list(numbers)))
    return [data[number] for number in numbers]


def examples_of(columns: Mapping[str, Sequence[Any]], what: str, number: int | None = None) -> list[Example]:
    """The examples of columns. Raises ValueError where these are not of one length, or not of `number` examples."""
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{what} needs columns of one length; got {lengths}")
    if number is not None and set(lengths.values()) - {number}:
        raise ValueError(f"{what} must return a value for each of {number} examples; got {lengths}")
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _pieces(column: Sequence[Any], order: Array | None) -> Iterator[bytes]:
    """The values of a column in this order, in bytes."""
    if isinstance(column, Strings):
        yield from column.pieces(order)
    elif isinstance(column, array):
        values = np.frombuffer(column, column.typecode)
        yield (values if order is None else values[order]).tobytes()
    else:
        yield from map(text_of, column if order is None else (column[place] for place in order.tolist()))
