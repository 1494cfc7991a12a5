"""The small dataset, and batches made from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.data import Dataset, collate

ROWS = [{"text": word, "label": len(word)} for word in ("a", "bbbb", "cc", "ddddd")]


def test_map_adds_keys_and_leaves_the_rows_it_came_from_alone() -> None:
    data = Dataset(ROWS)
    longer = data.map(lambda example: {"label": example["label"] + 1, "first": example["text"][0]})
    assert longer[1] == {"text": "bbbb", "label": 5, "first": "b"}
    assert data[1] == {"text": "bbbb", "label": 4}


def test_map_takes_columns_of_a_batch_and_gives_them_too() -> None:
    data, seen = Dataset(ROWS), []

    def lengths(batch: dict[str, list[Any]], places: list[int]) -> dict[str, list[Any]]:
        seen.append((batch, places))
        return {"length": [len(text) for text in batch["text"]], "label": np.array(batch["label"]) * 2}

    mapped = data.map(lengths, batched=True, batch_size=3, remove_columns="text", with_indices=True)
    assert seen[1] == ({"text": ["ddddd"], "label": [5]}, [3])
    assert list(mapped) == [{"label": 2 * example["label"], "length": example["label"]} for example in ROWS]
    letters = data.map(lambda b: {"letter": list("".join(b["text"]))}, batched=True, remove_columns=data.column_names)
    assert letters["letter"] == list("abbbbccddddd")
    assert len(data.map(lambda b: {"letter": []}, batched=True, remove_columns=["text", "label"])) == 0
    assert list(data.map(lambda b: {}, batched=True)) == ROWS == list(data.map(lambda example: {}))
    for function, error, message in (
        (lambda b: {"x": [1]}, ValueError, r"made 1 examples of 4: pass remove_columns=dataset\.column_names"),
        (lambda b: {"x": [1], "y": [1, 2]}, ValueError, r"needs columns of one length; got {'x': 1, 'y': 2}"),
        (lambda b: None, TypeError, "must return a dict of columns; got NoneType"),
    ):
        with pytest.raises(error, match=message):
            data.map(function, batched=True)


def test_map_takes_the_keywords_that_scripts_pass() -> None:
    data = Dataset.from_list(ROWS)
    longer = data.map(
        lambda example, by: {"label": example["label"] + by}, fn_kwargs={"by": 3}, num_proc=4, desc="adding"
    )
    assert longer["label"] == [example["label"] + 3 for example in ROWS] and data["label"] == [
        example["label"] for example in ROWS
    ]
    counted = data.map(
        lambda b, places, by: {"label": [by * i for i in places]}, batched=True, with_indices=True, fn_kwargs={"by": 5},
        load_from_cache_file=False,
    )  # fmt: skip
    assert counted["label"] == [0, 5, 10, 15]


def test_columns_are_renamed_removed_chosen_and_sorted_by() -> None:
    data = Dataset(ROWS)
    renamed = data.rename_column("label", "labels")
    assert renamed.column_names == ["text", "labels"] and data.column_names == ["text", "label"]
    assert data.remove_columns(["text"])[0] == {"label": 1} == data.with_format("numpy", columns=["label"])[0]
    assert data.sort("label", reverse=True)["label"] == [5, 4, 2, 1]
    assert (data.num_rows, data.shape) == (4, (4, 2))
    renamed.set_format(columns=["labels"])
    assert renamed[1] == {"labels": 4}
    assert list(Dataset.from_dict({"text": ["a", "b"], "n": [1, 2]})) == [{"text": "a", "n": 1}, {"text": "b", "n": 2}]
    assert Dataset([{"a": 1}, {"b": 2}])["b"] == [None, 2] and Dataset([{"a": 1}, {"b": 2}]).column_names == ["a", "b"]
    for call, error, message in (
        (lambda: data["txt"], KeyError, "there is no column 'txt'; there are: text, label"),
        (lambda: data.remove_columns("txt"), KeyError, "there is no column 'txt'"),
        (lambda: data.rename_column("text", "label"), ValueError, "there is a column 'label' already"),
        (lambda: data.with_format("torch"), ValueError, "got 'torch': npora is NumPy only"),
        (lambda: data.train_test_split(9), ValueError, "test_size=9 of 4 examples leaves none"),
    ):
        with pytest.raises(error, match=message):
            call()


@given(st.integers(2, 30), st.floats(0.05, 0.95), st.integers(0, 9), st.booleans())
def test_a_split_has_each_row_once(count: int, share: float, seed: int, shuffle: bool) -> None:
    data = Dataset({"n": n} for n in range(count))
    if not 0 < round(share * count) < count:
        return
    parts = data.train_test_split(share, seed, shuffle)
    assert sorted(parts["train"]["n"] + parts["test"]["n"]) == list(range(count))
    assert len(parts["test"]) == round(share * count)
    assert parts["test"]["n"] == data.train_test_split(len(parts["test"]), seed, shuffle)["test"]["n"]


def test_a_split_takes_the_test_from_the_end_and_shuffles_as_it_is_told() -> None:
    data = Dataset({"n": n} for n in range(9))
    for size, count in ((0.3, 3), (4, 4), (0.05, 0), (0.5, 4)):  # a share is rounded
        if count:
            parts = data.train_test_split(size, seed=5, shuffle=False)
            assert (parts["train"]["n"], parts["test"]["n"]) == (list(range(9 - count)), list(range(9 - count, 9)))
    orders = []
    for seed in range(6):
        parts = data.train_test_split(4, seed)
        orders.append(tuple(parts["train"]["n"] + parts["test"]["n"]))
        assert list(orders[-1]) == data.shuffle(seed)["n"]
    assert len(set(orders)) == 6
    assert data.train_test_split(4)["test"]["n"] == data.train_test_split(4, 42)["test"]["n"]


def test_map_counts_rows_through_the_whole_dataset_and_new_values_win() -> None:
    data = Dataset({"n": 10 * n, "kept": n} for n in range(5))
    assert data.map(lambda example, place: {"n": example["n"] + place}, with_indices=True)["n"] == [0, 11, 22, 33, 44]
    batched = data.map(lambda b, places: {"n": places}, batched=True, batch_size=2, with_indices=True)
    assert list(batched) == [{"n": n, "kept": n} for n in range(5)]
    assert data.sort("n")["n"] == [0, 10, 20, 30, 40] and data.sort("n", reverse=True)["kept"] == [4, 3, 2, 1, 0]


def test_shuffle_is_a_permutation_that_the_seed_decides() -> None:
    data = Dataset({"number": number} for number in range(50))
    first = data.shuffle(seed=42)["number"]
    assert first == data.shuffle(seed=42)["number"] != data.shuffle(seed=43)["number"]
    assert sorted(first) == list(range(50)) != first


def test_rows_slices_and_columns_come_by_index() -> None:
    data = Dataset(ROWS)
    assert len(data) == 4 and data[-1] is ROWS[3] and [example["label"] for example in data[1:3]] == [4, 2]
    assert data["label"] == [1, 4, 2, 5] and data.column_names == ["text", "label"]
    assert data.select(np.array([3, 0]))["text"] == ["ddddd", "a"]
    assert data.filter(lambda example: example["label"] > 2)["text"] == ["bbbb", "ddddd"]


def test_a_batch_is_padded_to_its_longest_row_with_a_mask() -> None:
    examples = [
        {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "label": 1, "text": "abc"},
        {"input_ids": [8], "attention_mask": [1], "label": 0, "text": "d"},
    ]
    batch = collate(examples, {"input_ids", "attention_mask", "labels"})
    assert batch.keys() == {"input_ids", "attention_mask", "labels"}
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]


def test_a_mask_is_made_where_the_rows_have_none() -> None:
    batch = collate([{"input_ids": [5, 6]}, {"input_ids": [7]}], {"input_ids", "attention_mask", "labels"})
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]] and "labels" not in batch


def test_labels_win_over_label_and_sequences_of_labels_are_padded_with_ignored_ones() -> None:
    examples = [{"input_ids": [1, 2], "label": "0", "labels": [3, 4]}, {"input_ids": [1], "label": "1", "labels": [5]}]
    assert collate(examples, {"input_ids", "labels"})["labels"].tolist() == [[3, 4], [5, -100]]


def test_a_row_that_lacks_something_is_an_error() -> None:
    with pytest.raises(ValueError, match="an example needs input_ids; this one has: text, label"):
        collate(ROWS, {"input_ids"})
    with pytest.raises(ValueError, match=r"an example needs input_ids; this one has: labels\. Tokenize"):
        collate([{"input_ids": None, "labels": 3}], {"input_ids"})
    with pytest.raises(ValueError, match="some examples have token_type_ids, and others do not"):
        collate([{"input_ids": [1], "token_type_ids": [0]}, {"input_ids": [1]}], {"input_ids", "token_type_ids"})
