"""The small dataset, and batches made from it."""

from __future__ import annotations

import numpy as np
import pytest

from npora.data import Dataset, collate

ROWS = [{"text": word, "label": len(word)} for word in ("a", "bbbb", "cc", "ddddd")]


def test_map_adds_keys_and_leaves_the_rows_it_came_from_alone() -> None:
    data = Dataset(ROWS)
    longer = data.map(lambda row: {"label": row["label"] + 1, "first": row["text"][0]})
    assert longer[1] == {"text": "bbbb", "label": 5, "first": "b"}
    assert data[1] == {"text": "bbbb", "label": 4}


def test_shuffle_is_a_permutation_that_the_seed_decides() -> None:
    data = Dataset({"number": number} for number in range(50))
    first = data.shuffle(seed=42)["number"]
    assert first == data.shuffle(seed=42)["number"] != data.shuffle(seed=43)["number"]
    assert sorted(first) == list(range(50)) != first


def test_rows_slices_and_columns_come_by_index() -> None:
    data = Dataset(ROWS)
    assert len(data) == 4 and data[-1] is ROWS[3] and [row["label"] for row in data[1:3]] == [4, 2]
    assert data["label"] == [1, 4, 2, 5] and data.column_names == ["text", "label"]
    assert data.select(np.array([3, 0]))["text"] == ["ddddd", "a"]
    assert data.filter(lambda row: row["label"] > 2)["text"] == ["bbbb", "ddddd"]


def test_a_batch_is_padded_to_its_longest_row_with_a_mask() -> None:
    rows = [
        {"input_ids": [5, 6, 7], "attention_mask": [1, 1, 1], "label": 1, "text": "abc"},
        {"input_ids": [8], "attention_mask": [1], "label": 0, "text": "d"},
    ]
    batch = collate(rows, {"input_ids", "attention_mask", "labels"})
    assert batch.keys() == {"input_ids", "attention_mask", "labels"}
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]


def test_a_mask_is_made_where_the_rows_have_none() -> None:
    batch = collate([{"input_ids": [5, 6]}, {"input_ids": [7]}], {"input_ids", "attention_mask", "labels"})
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]] and "labels" not in batch


def test_labels_win_over_label_and_sequences_of_labels_are_padded_with_ignored_ones() -> None:
    rows = [{"input_ids": [1, 2], "label": "0", "labels": [3, 4]}, {"input_ids": [1], "label": "1", "labels": [5]}]
    assert collate(rows, {"input_ids", "labels"})["labels"].tolist() == [[3, 4], [5, -100]]


def test_a_row_that_lacks_something_is_an_error() -> None:
    with pytest.raises(ValueError, match="a row needs input_ids; this one has: text, label"):
        collate(ROWS, {"input_ids"})
    with pytest.raises(ValueError, match="some rows have token_type_ids, and others do not"):
        collate([{"input_ids": [1], "token_type_ids": [0]}, {"input_ids": [1]}], {"input_ids", "token_type_ids"})
