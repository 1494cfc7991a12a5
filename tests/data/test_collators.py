"""Collators, batch by batch and number by number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from npora import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
)
from npora.data import collate, default_data_collator

TOKENIZER = SimpleNamespace(pad_token_id=17)  # 17 is a real token too, as where the end pads
# With a label that is no sequence, or one for each token.
ROWS: list[dict[str, Any]] = [
    {"input_ids": [5, 17, 6], "token_type_ids": [1, 2, 3]}, {"input_ids": [17], "token_type_ids": [4]},
    {"input_ids": [7, 8, 9, 10, 11], "token_type_ids": [5, 6, 7, 8, 9]},
]  # fmt: skip


def labelled(*labels: Any) -> list[dict[str, Any]]:
    return [{**example, "labels": label} for example, label in zip(ROWS, labels, strict=True)]


def padded(lists: list[list[int]], fill: int, length: int) -> list[list[int]]:
    return [values + [fill] * (length - len(values)) for values in lists]


def lists(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: array.tolist() for name, array in batch.items()}


WIDTHS = [({}, 5), ({"padding": "longest", "max_length": 9}, 5), ({"padding": "max_length", "max_length": 7}, 7),
          ({"pad_to_multiple_of": 4}, 8), ({"pad_to_multiple_of": 5}, 5),
          ({"padding": "max_length", "max_length": 2}, 5),
          ({"padding": "max_length", "max_length": 6, "pad_to_multiple_of": 4}, 8),
          ({"padding": "max_length", "max_length": 9, "pad_to_multiple_of": 4}, 12)]  # fmt: skip


@pytest.mark.parametrize(("options", "width"), WIDTHS)
def test_every_column_is_padded_behind_to_the_width_that_is_asked_for(options: Any, width: int) -> None:
    expected = {
        "input_ids": padded([example["input_ids"] for example in ROWS], 17, width),
        "token_type_ids": padded([example["token_type_ids"] for example in ROWS], 0, width),
        "attention_mask": padded([[1] * 3, [1], [1] * 5], 0, width),
    }
    of_rows, of_tokens = [2, 0, 1], [[3, -100, 1], [2], [1, 1, 0, 2, 4]]
    for kind in (DataCollatorWithPadding, DataCollatorForSeq2Seq):
        assert lists(kind(TOKENIZER, **options)(labelled(*of_rows))) == {**expected, "labels": of_rows}
    assert lists(DataCollatorWithPadding(TOKENIZER, **options)(ROWS)) == expected
    for kind in (DataCollatorForTokenClassification, DataCollatorWithPadding):
        found = lists(kind(TOKENIZER, **options)(labelled(*of_tokens)))
        assert found == {**expected, "labels": padded(of_tokens, -100, width)}
    answers = [[8, 9], [8, 9, 10, 11], [8]]  # of a length of their own
    found = lists(DataCollatorForSeq2Seq(TOKENIZER, **options)(labelled(*answers)))
    assert found == {**expected, "labels": padded(answers, -100, 4)}


@pytest.mark.parametrize(("multiple", "width"), [(None, 5), (3, 6), (8, 8)])
def test_a_causal_models_labels_are_its_real_tokens_also_those_that_look_like_padding(
    multiple: int | None, width: int
) -> None:
    collator = DataCollatorForLanguageModeling(TOKENIZER, mlm=False, pad_to_multiple_of=multiple)
    found = lists(collator([{**example, "label": "a name", "labels": [0] * n} for n, example in enumerate(ROWS)]))
    ids = [example["input_ids"] for example in ROWS]
    assert found["labels"] == padded(ids, -100, width) and found["input_ids"] == padded(ids, 17, width)
    assert found["attention_mask"] == padded([[1] * 3, [1], [1] * 5], 0, width)
    with pytest.raises(ValueError, match="for a causal model pass mlm=False"):
        DataCollatorForLanguageModeling(TOKENIZER)


def test_the_default_collator_has_all_columns_and_the_labels() -> None:
    examples = [{"input_ids": [5, 6], "label": 0.5, "weight": 3.0}, {"input_ids": [7], "label": 2, "weight": 4.0}]
    assert lists(default_data_collator(examples)) == {
        "input_ids": [[5, 6], [7, 0]], "labels": [0.5, 2.0], "weight": [3.0, 4.0],
    }  # fmt: skip


def test_a_tokenizer_without_padding_pads_with_0() -> None:
    found = DataCollatorWithPadding(SimpleNamespace(pad_token_id=None))(ROWS)
    assert found["input_ids"].tolist() == padded([example["input_ids"] for example in ROWS], 0, 5)


def test_a_decoders_ids_are_padded_as_ids_and_its_mask_with_0() -> None:
    examples = [{"input_ids": [1, 2], "decoder_input_ids": [3], "decoder_attention_mask": [1]},
            {"input_ids": [4], "decoder_input_ids": [5, 6, 7], "decoder_attention_mask": [1, 1, 1]}]  # fmt: skip
    found = collate(examples, {"input_ids", "decoder_input_ids", "decoder_attention_mask"}, pad_token_id=9)
    assert lists(found) == {
        "input_ids": [[1, 2], [4, 9]], "decoder_input_ids": [[3, 9, 9], [5, 6, 7]],
        "decoder_attention_mask": [[1, 0, 0], [1, 1, 1]],
    }  # fmt: skip


def test_labels_stand_before_label_and_label_before_label_ids() -> None:
    names = ("label_ids", "label", "labels")
    for count in (1, 2, 3):
        example = {"input_ids": [5], **{name: number for number, name in enumerate(names[:count], start=1)}}
        assert collate([example, {**example, "labels": None}][:1], {"labels"})["labels"].tolist() == [count]
    assert collate([{"input_ids": [5], "labels": None, "label": 4, "label_ids": 6}], {"labels"})["labels"] == [4]
