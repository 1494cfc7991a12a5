"""A batch is what all its examples say, whichever comes first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.data import collate

NAMES = {"input_ids", "attention_mask", "token_type_ids", "labels"}
WHOLE = (np.uint8, np.int16, np.uint16, np.int32, np.int64, np.uint64)
FLOATS = (np.float16, np.float32, np.float64)


@st.composite
def rows_of_one_kind(draw: Any) -> list[dict[str, Any]]:
    """Examples with the same columns: lengths and types differ from example to example, and a sequence may be empty."""
    kind = draw(st.sampled_from(["scalar", "tokens", "several", "none"]))
    with_mask, with_types = draw(st.booleans()), draw(st.booleans())
    examples = []
    for _ in range(draw(st.integers(1, 6))):
        n = draw(st.integers(0, 5))
        ids = np.array(draw(st.lists(st.integers(0, 99), min_size=n, max_size=n)), dtype=draw(st.sampled_from(WHOLE)))
        example: dict[str, Any] = {"input_ids": draw(st.sampled_from([ids, ids.tolist()])), "text": draw(st.text())}
        if with_mask:
            example["attention_mask"] = draw(st.sampled_from([np.ones(n, bool), [1] * n]))
        if with_types:
            example["token_type_ids"] = [0] * n
        number = draw(st.sampled_from((*WHOLE, *FLOATS, bool)))
        if kind == "scalar":
            example[draw(st.sampled_from(["labels", "label", "label_ids"]))] = number(draw(st.integers(0, 3)))
        elif kind != "none":
            count = n if kind == "tokens" else 3
            values = draw(st.lists(st.sampled_from([0, 1]), min_size=count, max_size=count))
            example["labels"] = np.array(values, dtype=number)
        else:
            example["labels"] = None
        examples.append(example)
    return examples


def label_of(example: dict[str, Any]) -> Any:
    return next((example[key] for key in ("labels", "label", "label_ids") if example.get(key) is not None), None)


@given(rows_of_one_kind(), st.randoms(use_true_random=False))
def test_another_order_of_the_rows_is_another_order_of_the_batch_and_no_more(examples: list[Any], random: Any) -> None:
    order = list(range(len(examples)))
    random.shuffle(order)
    batch, other = collate(examples, NAMES), collate([examples[i] for i in order], NAMES)
    assert batch.keys() == other.keys()
    for name, array in batch.items():
        assert other[name].dtype == array.dtype and np.array_equal(other[name], array[order])


@given(rows_of_one_kind())
def test_every_row_is_in_the_batch_with_the_values_that_it_came_with(examples: list[Any]) -> None:
    batch = collate(examples, NAMES, pad_token_id=7)
    longest = max(len(example["input_ids"]) for example in examples)
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype or batch["attention_mask"].dtype == bool
    assert batch["input_ids"].dtype == np.int64 and batch["input_ids"].shape == (len(examples), longest)
    assert ("labels" in batch) == (label_of(examples[0]) is not None)
    for i, example in enumerate(examples):
        n = len(example["input_ids"])
        assert batch["input_ids"][i].tolist() == [*example["input_ids"], *[7] * (longest - n)]
        assert batch["attention_mask"][i].tolist() == [1] * n + [0] * (longest - n)
        if "labels" in batch:
            given_values = np.atleast_1d(label_of(example))
            assert np.atleast_1d(batch["labels"][i])[: len(given_values)].tolist() == given_values.tolist()


@given(rows_of_one_kind(), st.sampled_from(["attention_mask", "token_type_ids", "labels", "input_ids"]), st.data())
def test_a_column_that_some_rows_lack_is_an_error_that_names_one_of_them(
    examples: list[Any], name: str, data: Any
) -> None:
    examples = [{**example, "labels": label_of(example)} for example in examples if label_of(example) is not None]
    examples = [{k: v for k, v in example.items() if k not in ("label", "label_ids")} for example in examples]
    if len(examples) < 2 or name not in examples[0]:
        return
    lacking = data.draw(st.integers(0, len(examples) - 1))
    examples[lacking] = {**examples[lacking], name: data.draw(st.sampled_from([None, ...]))}
    examples[lacking] = {k: v for k, v in examples[lacking].items() if v is not ...}
    with pytest.raises(ValueError, match=f"some examples have {name}, and others do not: example {lacking} has"):
        collate(examples, NAMES)


def labelled(*labels: Any) -> list[dict[str, Any]]:
    return [{"input_ids": [5, 6], "labels": label} for label in labels]


def test_labels_are_floats_where_one_is() -> None:
    labels = collate(labelled([0, 1, 0], [0.5, 0.25, 1.0]), NAMES)["labels"]
    assert labels.tolist() == [[0.0, 1.0, 0.0], [0.5, 0.25, 1.0]]
    assert collate(labelled(True, 2), NAMES)["labels"].tolist() == [1, 2]
    assert collate(labelled(np.float16(0.5), 3), NAMES)["labels"].tolist() == [0.5, 3.0]
    assert collate(labelled(np.float32(0.5), np.float16(3)), NAMES)["labels"].dtype == np.float32  # and no wider


def test_an_empty_row_first_leaves_ids_whole_numbers() -> None:
    batch = collate([{"input_ids": [], "labels": []}, {"input_ids": [3, 4], "labels": [1, 0]}], NAMES)
    assert batch["input_ids"].dtype == batch["labels"].dtype == np.int64
    assert batch["labels"].tolist() == [[-100, -100], [1, 0]]


def test_unsigned_labels_are_padded_with_ignored_ones() -> None:
    examples = [{"input_ids": [1] * n, "labels": np.arange(n, dtype=np.uint16)} for n in (1, 3)]
    assert collate(examples, NAMES)["labels"].tolist() == [[0, -100, -100], [0, 1, 2]]


def test_bool_labels_of_tokens_are_padded_with_ignored_ones() -> None:
    examples = [{"input_ids": [5, 6], "labels": [True, False]}, {"input_ids": [7, 8, 9], "labels": [False, True, True]}]
    assert collate(examples, {"labels"})["labels"].tolist() == [[1, 0, -100], [0, 1, 1]]


def test_columns_that_nobody_takes_are_not_looked_at() -> None:
    examples = [{"input_ids": [1], "text": "a", "spans": [[1], [2, 3]], "label": 0}, {"input_ids": [2], "label": 1}]
    assert collate(examples, NAMES).keys() == {"input_ids", "attention_mask", "labels"}


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        (labelled(0, "positive"), "example 1: labels is 'positive': a label is a number; map names to numbers"),
        (labelled(0, float("nan")), "example 1: labels is nan: a value is missing"),
        (labelled([[1, 2], [3]], 0), "example 0: labels is no array of numbers"),
        (labelled([0, None], [1, 1]), r"example 0: labels is \[0, None\]"),
        (labelled(0, [1, 0]), r"its shape is \(\) in example 0, and \(2,\) in example 1"),
        (labelled([0, 1], 1), "labels must be of one kind in all examples"),
        (labelled([[1, 0], [0, 1]], [[1], [0]]), "labels must be of one kind in all examples"),
        (labelled([0, 1, 0], [1.0, 0.5]), "example 0: labels has 3 entries, and input_ids 2"),
        ([{"input_ids": [[1, 2]]}], r"example 0: input_ids must be one list of ids, not an array of shape \(1, 2\)"),
        ([{"input_ids": [1]}, {"input_ids": [1.5]}], "example 1: input_ids must be whole numbers, not float64"),
        ([{"input_ids": ["a"]}], r"example 0: input_ids is \['a'\]"),
        (
            [{"input_ids": [1, 2], "attention_mask": [1, 1]}, {"input_ids": [1, 2, 3], "attention_mask": [1]}],
            "example 1: attention_mask has 1 entries, and input_ids 3",
        ),
        ([{"input_ids": [1]}, [1, 2]], "example 1 is a list: an example is a dict"),
        ([{"text": "a"}], "an example needs input_ids; this one has: text"),
    ],
)  # fmt: skip
def test_what_is_no_batch_is_an_error_that_names_the_row(examples: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        collate(examples, NAMES)


@pytest.mark.parametrize("name", ["labels", "input_ids", "token_type_ids"])
def test_a_number_that_int64_does_not_hold_is_refused_by_its_row(name: str) -> None:
    examples = [{"input_ids": [1], "token_type_ids": [0], "labels": 1}] * 2
    with pytest.raises(ValueError, match=rf"example 1: {name} holds 9223372036854775808"):
        collate(
            [examples[0], {**examples[1], name: np.array(2**63, np.uint64) if name == "labels" else [2**63]}],
            set(examples[0]),
        )


def test_a_decoders_labels_have_a_length_of_their_own() -> None:
    examples = [{"input_ids": [1, 2, 3], "labels": [4]}, {"input_ids": [1], "labels": [5, 6]}]
    assert collate(examples, {*NAMES, "decoder_input_ids"})["labels"].tolist() == [[4, -100], [5, 6]]


def test_rows_are_called_by_their_numbers_in_the_dataset() -> None:
    with pytest.raises(ValueError, match="example 31 has input_ids"):
        collate([*labelled(1), {"input_ids": [1]}], NAMES, numbers=[17, 31])
