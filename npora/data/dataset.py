"""A list of examples with the few methods that a training script calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np

from npora.data.cache import Path, cached
from npora.data.columns import Example as Example
from npora.data.columns import LazyExamples, Transform, Transformed, examples_at, examples_of
from npora.data.fingerprint import fingerprint


class Dataset(Sequence[Example]):
    """Examples as dicts. The methods are those of Hugging Face's `datasets.Dataset` and return new Datasets.

    label2id : the classes' numbers by their names, where the examples were read from a file with names; else None
    """

    def __init__(self, examples: Iterable[Example]) -> None:
        self._examples: Sequence[Example] = examples if isinstance(examples, LazyExamples) else list(examples)
        self.label2id: dict[str, int] | None = None

    @classmethod
    def from_dict(cls, columns: Mapping[str, Sequence[Any]]) -> Dataset:
        """The examples of columns, which must be of one length."""
        return cls(examples_of(columns, "from_dict"))

    @classmethod
    def from_list(cls, mapping: Iterable[Example]) -> Dataset:
        return cls(mapping)

    def __len__(self) -> int:
        return len(self._examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self._examples)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    @overload
    def __getitem__(self, index: str) -> list[Any]: ...
    def __getitem__(self, index: Any) -> Any:
        """An example by its number, the examples of a slice, or a column by its name."""
        if isinstance(index, str):
            self._check([index])
            if isinstance(self._examples, LazyExamples):
                return self._examples.column(index)
            return [example.get(index) for example in self._examples]
        return self._with(self._examples[index]) if isinstance(index, slice) else self._examples[index]

    def __getitems__(self, numbers: Sequence[int]) -> list[Example]:
        """The examples of these numbers, made at once where they are made when they are asked for."""
        return examples_at(self._examples, numbers)

    def where(self, number: int) -> str:
        """Where an example stands: of those of a file its line, which is looked up there."""
        return self._examples.where(number) if isinstance(self._examples, LazyExamples) else f"example {number}"

    def fingerprint(self) -> dict[str, Any]:
        """What tells these examples from others: a resumed training must have the same. {"sha256": of all of them};
        where they are made when they are asked for, that of what they are made from, and what makes them."""
        return fingerprint(self._examples)

    @property
    def column_names(self) -> list[str]:
        """Of all examples; one that lacks a column has None there."""
        if isinstance(self._examples, LazyExamples):
            return list(self._examples.names)
        return list(dict.fromkeys(name for example in self._examples for name in example))

    @property
    def num_rows(self) -> int:
        return len(self._examples)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._examples), len(self.column_names)

    def map(
        self,
        function: Callable[..., Mapping[str, Any]],
        batched: bool = False,
        batch_size: int = 1000,
        remove_columns: str | Sequence[str] | None = None,
        with_indices: bool = False,
        fn_kwargs: Mapping[str, Any] | None = None,
        num_proc: int | None = None,
        load_from_cache_file: bool | None = None,
        desc: str | None = None,
    ) -> Dataset:
        """Each example with the keys that `function(example)` returns added to it, or put in their place.

        batched : function gets and returns columns, lists of up to batch_size examples' values. It may return more or
            fewer examples, if remove_columns takes all that was there
        remove_columns : columns of the examples that came which the new ones do not have
        with_indices : function gets the example's number too, or the list of the batch's
        fn_kwargs : further keywords for function
        num_proc, load_from_cache_file, desc : taken for scripts that pass them: examples are in memory, and one process
            does it without a cache

        Raises
        ------
        ValueError: a column that there is not; columns of different lengths.
        """
        removed = [remove_columns] if isinstance(remove_columns, str) else list(remove_columns or ())
        self._check(removed)
        examples: list[Example] = []
        size, names = batch_size if batched else 1, self.column_names
        for start in range(0, len(self._examples), size):
            part = self._examples[start : start + size]
            given: Any = {name: [example.get(name) for example in part] for name in names} if batched else part[0]
            places: Any = list(range(start, start + len(part))) if batched else start
            made = function(given, *[places] * with_indices, **(fn_kwargs or {}))
            if not isinstance(made, Mapping):
                raise TypeError(f"the function of map must return a dict of columns; got {type(made).__name__}")
            new = examples_of(made, "the function of map") if batched and made else [dict(made)] * len(part)
            kept = [{name: value for name, value in example.items() if name not in removed} for example in part]
            if len(new) != len(kept):
                if any(kept):
                    raise ValueError(
                        f"the function of map made {len(new)} examples of {len(kept)}: pass remove_columns="
                        "dataset.column_names, since the old columns do not fit them"
                    )
                kept = [{}] * len(new)
            examples += [{**old, **made} for old, made in zip(kept, new, strict=True)]
        return self._with(examples)

    def filter(self, function: Callable[[Example], bool]) -> Dataset:
        return self.select([i for i, example in enumerate(self._examples) if function(example)])

    def shuffle(self, seed: int) -> Dataset:
        """The examples in an order that `numpy.random.default_rng(seed)` draws."""
        return self.select(np.random.default_rng(seed).permutation(len(self._examples)))

    def select(self, indices: Iterable[int]) -> Dataset:
        if isinstance(self._examples, LazyExamples):
            return self._with(self._examples.take(indices))
        return self._with(self._examples[int(index)] for index in indices)

    def sort(self, column: str, reverse: bool = False) -> Dataset:
        self._check([column])
        return self._with(sorted(self._examples, key=lambda example: example[column], reverse=reverse))

    def train_test_split(self, test_size: float = 0.25, seed: int = 42, shuffle: bool = True) -> dict[str, Dataset]:
        """{"train": …, "test": …}; test_size is a share below 1, or a number of examples."""
        count = round(test_size * len(self)) if isinstance(test_size, float) and test_size < 1 else int(test_size)
        if not 0 < count < len(self):
            raise ValueError(
                f"test_size={test_size} of {len(self)} examples leaves none for the test or for the training"
            )
        examples = self.shuffle(seed) if shuffle else self
        return {"train": examples[: len(self) - count], "test": examples[len(self) - count :]}

    def rename_column(self, original_column_name: str, new_column_name: str) -> Dataset:
        self._check([original_column_name])
        if new_column_name in self.column_names:
            raise ValueError(f"there is a column {new_column_name!r} already")
        names = {original_column_name: new_column_name}
        return self._with(
            {names.get(name, name): value for name, value in example.items()} for example in self._examples
        )

    def remove_columns(self, column_names: str | Sequence[str]) -> Dataset:
        removed = [column_names] if isinstance(column_names, str) else list(column_names)
        self._check(removed)
        return self._with({name: v for name, v in example.items() if name not in removed} for example in self._examples)

    def with_format(self, type: str | None = None, columns: Sequence[str] | None = None) -> Dataset:
        """The columns named. Examples are lists, which Trainer makes arrays of: type is None or "numpy".

        Raises
        ------
        ValueError: another type.
        """
        if type not in (None, "numpy", "np"):
            raise ValueError(f"the type must be None or 'numpy'; got {type!r}: npora is NumPy only")
        return self if columns is None else self.remove_columns([n for n in self.column_names if n not in columns])

    def set_format(self, type: str | None = None, columns: Sequence[str] | None = None) -> None:
        """with_format, in place."""
        self._check(list(columns or ()))
        self._examples = self.with_format(type, columns)._examples

    def with_transform(self, transform: Transform, columns: Sequence[str] | None = None) -> Dataset:
        """Examples that transform makes each time that they are asked for, in the place of these: of a batch of them,
        as columns {name: values}, it returns columns. So nothing is made before it is needed, and nothing is kept.

        columns : those that transform is given, all unless said
        """
        self._check(list(columns or ()))
        return self._with(Transformed(self._examples, transform, self.column_names if columns is None else columns))

    def cached(self, directory: Path, progress: Callable[[int], None] | None = None) -> Dataset:
        """The same examples, of numbers and lists of numbers, from a folder whose files are mapped into memory; where
        there is none they are all made once and written to it. A folder that holds other examples, by the fingerprint
        of these, is refused.

        progress : is told how many are written

        Raises
        ------
        ValueError: other examples, by name; files that are not those that were written; a value that is no number.
        """
        return self._with(cached(directory, self._examples, self.fingerprint(), progress))

    def to_list(self) -> list[Example]:
        return list(self._examples)

    def _with(self, examples: Iterable[Example]) -> Dataset:
        made = Dataset(examples)
        made.label2id = self.label2id
        return made

    def _check(self, names: Sequence[str]) -> None:
        found = self.column_names if names and self._examples else names
        for name in names:
            if name not in found:
                raise KeyError(f"there is no column {name!r}; there are: {', '.join(found) or 'none'}")

    def __repr__(self) -> str:
        return f"Dataset({len(self)} examples of {', '.join(self.column_names) or 'nothing'})"
