"""Collators give what transformers' collators give, and Trainer takes either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import DataCollatorForLanguageModeling, DataCollatorForSeq2Seq, DataCollatorWithPadding, Trainer
from npora import DataCollatorForTokenClassification as ForTokens
from npora.data import default_data_collator
from tests.shared_data import data
from tests.tiny import tiny_peft, tiny_rows
from tests.train.test_trainer import arguments, values

transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")
SENTENCES = ("a great film", "dull", "far too long and far too dull")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(data("checkpoints", "minilm-l6"))


def assert_same(ours: Any, theirs: Any) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert array.tolist() == np.asarray(theirs[name]).tolist(), name


def rows(tokenizer: Any, labels: Any = None) -> list[dict[str, Any]]:
    encoded = [dict(tokenizer(text)) for text in SENTENCES]
    return [{**row, "labels": labels(row, i)} if labels else row for i, row in enumerate(encoded)]


@pytest.mark.parametrize("options", [{}, {"padding": "max_length", "max_length": 20}, {"pad_to_multiple_of": 8}])
def test_batches_are_padded_as_theirs(tokenizer: Any, options: Any) -> None:
    tasks: list[Any] = [
        (DataCollatorWithPadding, lambda row, i: i),
        (ForTokens, lambda row, i: [i] * len(row["input_ids"])),
        (DataCollatorForSeq2Seq, lambda row, i: [5] * (i + 2)),
    ]
    for ours, labels in tasks:
        theirs = getattr(transformers, ours.__name__)(tokenizer, **options, return_tensors="np")
        found = ours(tokenizer, **options)(rows(tokenizer, labels))
        if ours is DataCollatorForSeq2Seq:  # theirs pads labels as far as the ids, where a model needs none of it
            expected = dict(theirs(rows(tokenizer, labels)))
            assert_same({k: v for k, v in found.items() if k != "labels"},
                        {k: v for k, v in expected.items() if k not in ("labels", "decoder_input_ids")})  # fmt: skip
            assert found["labels"].tolist() == [[5, 5, -100, -100], [5, 5, 5, -100], [5, 5, 5, 5]]
        else:
            assert_same(found, theirs(rows(tokenizer, labels)))


def test_a_causal_models_labels_are_theirs(tokenizer: Any) -> None:
    theirs = transformers.DataCollatorForLanguageModeling(tokenizer, mlm=False, return_tensors="np")
    assert_same(DataCollatorForLanguageModeling(tokenizer, mlm=False)(rows(tokenizer)), theirs(rows(tokenizer)))
    with pytest.raises(ValueError, match="for a causal model pass mlm=False"):
        DataCollatorForLanguageModeling(tokenizer)


def test_the_default_collator_takes_all_columns(tokenizer: Any) -> None:
    same = [
        {**row, "label": i}
        for i, row in enumerate(tokenizer(text, padding="max_length", max_length=9) for text in SENTENCES)
    ]
    assert_same(default_data_collator(same), transformers.default_data_collator(same, return_tensors="np"))


def test_trainer_takes_theirs_which_gives_tensors(tokenizer: Any, tmp_path: Path) -> None:
    data = tiny_rows(9)
    runs = []
    for keywords in ({}, {"data_collator": transformers.DataCollatorWithPadding(tokenizer)}):
        model = tiny_peft()
        Trainer(model, arguments(tmp_path, max_steps=3), data, **keywords).train()
        runs.append(values(model))
    assert runs[0] == runs[1]


def test_what_they_cannot_do_is_said() -> None:
    for options, message in (
        ({"return_tensors": "pt"}, "return_tensors must be 'np'"),
        ({"padding": False}, "padding must be True"),
        ({"padding": "max_length"}, "needs max_length"),
    ):
        with pytest.raises(ValueError, match=message):
            DataCollatorWithPadding(None, **options)
    with pytest.raises(ValueError, match="label_pad_token_id must be -100"):
        DataCollatorForSeq2Seq(None, label_pad_token_id=0)
