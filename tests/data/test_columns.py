"""Examples that are made when they are asked for are those that a list would hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.data import Dataset
from npora.data.columns import Columns
from npora.data.strings import Strings

TEXTS = st.lists(st.text(st.characters(codec=None), max_size=5), max_size=6)


def strings(texts: list[str]) -> Strings:
    made = Strings()
    for text in texts:
        made.append(text)
    return made


@given(TEXTS, st.integers(-9, 9), st.integers(-9, 9))
def test_strings_are_a_list_of_them(texts: list[str], start: int, stop: int) -> None:
    """Half of a pair of surrogates too, which is refused where a file is read."""
    made = strings(texts)
    assert list(made) == texts and made[start:stop] == texts[start:stop] and len(made) == len(texts)
    for index in (start, stop):
        if -len(texts) <= index < len(texts):
            assert made[index] == texts[index]
        else:
            with pytest.raises(IndexError):
                made[index]


def both(number: int) -> tuple[Dataset, Dataset]:
    """The same examples in columns and in a list."""
    texts = [f"text {i % 3}" * (i % 4) for i in range(number)]
    examples = [{"text": text, "label": i % 2} for i, text in enumerate(texts)]
    columns = {"text": strings(texts), "label": [example["label"] for example in examples]}
    return Dataset(Columns(columns)), Dataset(examples)


OPERATIONS: dict[str, Any] = {
    "select": lambda d: d.select([3, 0, -1, 3]),
    "no examples": lambda d: d.select([]),
    "an array": lambda d: d.select(np.array([2, 1])),
    "a generator": lambda d: d.select(i for i in (4, 2)),
    "shuffle": lambda d: d.shuffle(3).shuffle(4),
    "slice": lambda d: d[1:9:2],
    "of a slice": lambda d: d[2:].select([0, 2])[::-1],
    "split": lambda d: d.train_test_split(0.3)["test"],
    "filter": lambda d: d.filter(lambda example: example["label"]),
    "sort": lambda d: d.sort("text", reverse=True),
    "rename": lambda d: d.rename_column("text", "sentence"),
    "remove": lambda d: d.remove_columns("text"),
    "map": lambda d: d.map(lambda example: {"size": len(example["text"])}),
    "batches": lambda d: d.map(lambda b: {"size": [len(t) for t in b["text"]]}, batched=True, batch_size=4),
    "transform": lambda d: d.with_transform(lambda b: {"size": [len(t) for t in b["text"]]}),
    "transform, then select": lambda d: d.with_transform(lambda b: {"n": b["label"]}, ["label"]).select([5, 1]),
    "transform, then map": lambda d: d.with_transform(lambda b: {"n": b["label"]}).map(
        lambda b: {"more": [n + 1 for n in b["n"]]}, batched=True
    ),
    "transform twice": lambda d: d.with_transform(lambda b: {"n": b["label"]}).with_transform(
        lambda b: {"m": b["n"]}, ["n"]
    ),
    "transform, then choose": lambda d: (
        d.with_transform(lambda b: {**b, "n": b["label"]})
        .with_format("numpy", ["n", "text"])
        .rename_column("n", "labels")
        .sort("labels")
    ),
    "transform none": lambda d: d.select([]).with_transform(lambda b: {"n": b["label"]}),
    "select, then transform": lambda d: d.select([5, 1]).with_transform(lambda b: {"n": b["label"]}, ["label"]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_method_gives_what_it_gives_of_a_list(name: str) -> None:
    lazy, eager = (OPERATIONS[name](data) for data in both(11))
    assert list(lazy) == list(eager) == [lazy[i] for i in range(len(lazy))] and len(lazy) == len(eager)
    if len(eager):
        numbers = [len(eager) - 1, 0]
        assert lazy.__getitems__(numbers) == [eager[i] for i in numbers] == eager.__getitems__(numbers)
        assert lazy[-1] == eager[-1]
    assert lazy.column_names == eager.column_names or not len(eager)
    assert all(lazy[column] == eager[column] == [example[column] for example in lazy] for column in eager.column_names)
    with pytest.raises(IndexError):
        lazy[len(lazy)]


def test_a_transform_is_called_for_what_is_asked_for_alone_and_each_time() -> None:
    calls: list[Any] = []

    def transform(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        calls.append(batch["label"])
        return batch

    data = both(1000)[0].with_transform(transform)
    assert not calls and len(data) == 1000
    data.__getitems__([7, 2])
    data[7]
    assert calls == [[1, 0], [1]]
    assert len(list(data)) == 1000 and max(map(len, calls)) == 256
    with pytest.raises(ValueError, match=r"must return a value for each of 1 examples; got {'x': 2}"):
        both(3)[0].with_transform(lambda batch: {"x": [1, 2]})[0]
    with pytest.raises(TypeError, match="must return a dict of columns; got NoneType"):
        both(3)[0].with_transform(lambda batch: None)[0]  # type: ignore[arg-type, return-value]
    with pytest.raises(KeyError, match="there is no column 'text'; there are: n"):
        both(3)[0].with_transform(lambda batch: {"n": batch["label"]})["text"]
    with pytest.raises(KeyError, match="there is no column 'txt'"):
        both(3)[0].with_transform(transform, ["txt"])


def test_rows_beyond_the_last_are_an_error() -> None:
    data = both(4)[0]
    for numbers in ([4], [-5]):
        with pytest.raises(IndexError, match="there are 4 examples, and none beyond"):
            data.select(numbers)
