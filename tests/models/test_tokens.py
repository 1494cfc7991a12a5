"""Rows, positions and targets of a padded batch, on numbers worked out by hand."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from npora.models import (
    BertForSequenceClassification,
    BertModel,
    DifferenceWarning,
    DistilBertForSequenceClassification,
    T5Config,
    T5Model,
)
from npora.models.losses import token_classification
from npora.models.tokens import Tokens, check_positions, last_token_rows, next_token_targets, pack_tokens
from tests.models.test_generation_families import FAMILIES
from tests.tiny import SIZES, tiny_bert

IDS = np.array([[7, 5, 3, 0], [0, 0, 4, 9], [0, 8, 0, 6]])
MASK = np.array([[1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 1, 1]])


def test_the_last_token_is_the_last_that_the_mask_shows_whatever_its_id_is() -> None:
    for pad in (0, 3, 6, 77, None):
        assert last_token_rows(Tokens.of(IDS, MASK), pad).tolist() == [2, 4, 8]


def test_without_a_mask_the_last_token_is_the_rightmost_that_is_no_padding_if_a_token_is_padding() -> None:
    for pad, rows in ((0, [2, 7, 11]), (6, [3, 7, 10]), (None, [3, 7, 11])):
        assert last_token_rows(Tokens.of(IDS), pad).tolist() == rows


def test_the_target_of_a_row_is_the_label_of_the_column_after_it_unless_that_is_padding() -> None:
    _, padding = pack_tokens(IDS, MASK)
    labels = np.arange(12).reshape(3, 4)
    with pytest.warns(DifferenceWarning) as said:
        assert next_token_targets(labels, padding).tolist() == [1, 2, -100, 7, -100, 9, 10, 11, -100]
    assert [str(warning.message)[:23] for warning in said] == ["there are labels where ", "a token behind padding "]
    labels[~padding.mask] = labels[1, 2] = -100  # the label of the first token behind padding
    assert next_token_targets(labels, padding).tolist() == [1, 2, -100, 7, -100, 9, 10, 11, -100]  # and no warning


def test_positions_are_those_given_or_the_columns() -> None:
    assert Tokens.of(IDS, MASK).positions.tolist() == [0, 1, 2, 2, 3, 0, 1, 2, 3]
    assert Tokens.of(IDS, MASK, position_ids=[[4, 5, 6, 7]]).positions.tolist() == [4, 5, 6, 6, 7, 4, 5, 6, 7]
    own = np.arange(12).reshape(3, 4)  # of each sequence
    assert Tokens.of(IDS, MASK, position_ids=own).positions.tolist() == [0, 1, 2, 6, 7, 8, 9, 10, 11]


def test_the_last_position_is_used_and_the_next_is_an_error() -> None:
    check_positions(np.array([0, 3, 1]), 4)
    check_positions(np.array([], dtype=int), 0)
    with pytest.raises(ValueError, match="a sequence of 4 tokens is longer than the 3 positions"):
        check_positions(np.array([0, 3, 1]), 3)


def test_a_token_classifiers_loss_is_a_mean_over_the_labels_that_there_are() -> None:
    _, padding = pack_tokens(IDS, MASK)
    labels = np.full((3, 4), -100)
    labels[0, 1], labels[2, 0], labels[2, 3], labels[1, 0] = 1, 0, 1, 1  # the last stands at padding
    rows = np.ones((9, 2), np.float32)
    with pytest.warns(DifferenceWarning, match="npora's loss leaves them out, transformers' counts them"):
        output, _ = token_classification(rows, lambda drows: None, padding, labels)
    assert output.num_items == 3


@pytest.mark.parametrize("made", [BertForSequenceClassification, BertModel, DistilBertForSequenceClassification])
def test_a_classifier_of_first_tokens_says_where_transformers_reads_padding(made: Any) -> None:
    sizes = {"dim": 6, "n_layers": 1, "n_heads": 2} if "Distil" in made.__name__ else SIZES
    model = made(made.config_class(**{**sizes, "vocab_size": 31}), rng=0)
    model(IDS, MASK[[0, 2, 2]])  # padded on the right
    with pytest.warns(DifferenceWarning, match=r"first real token, transformers' read column 0.*padding_side='right'"):
        model(IDS, MASK)


def test_what_differs_is_said_once_in_a_process() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("default")
        for _ in range(3):
            for mask in (MASK, MASK[::-1]):
                tiny_bert()(IDS, mask)
    assert [warning.category for warning in said] == [DifferenceWarning]


@pytest.mark.parametrize("mask", [[[1, 1, 0], [0, 2, 1]], [[1, 1, 1], [0.0, -1e9, 0.0]], [[1, 1, 1], [1, np.nan, 1]]])
def test_a_mask_of_other_numbers_than_0_and_1_is_refused(mask: Any) -> None:
    with pytest.raises(ValueError, match=r"attention_mask is .* in row 1, column 1: expected 1 for a real token, 0"):
        pack_tokens(IDS[:2, :3], np.array(mask))
    for kind in (bool, np.uint8, np.float32):
        assert pack_tokens(IDS, MASK.astype(kind))[1].packing.lengths.tolist() == [3, 2, 4]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_keyword_that_a_model_has_not_is_an_error_that_says_what_it_takes(name: str) -> None:
    """Those of transformers that ask for what is done anyway are accepted."""
    model = FAMILIES[name]()
    ids = np.array([[2, 3, 4]])
    for called, given in ((model, {"labels": ids}), (model.body, {})):
        given |= {"decoder_input_ids": ids} if name == "t5" and not given else {}
        called(ids, **given, return_dict=True, use_cache=False, output_attentions=None)
        with pytest.raises(ValueError, match="output_attentions=True has no meaning in npora: npora returns no attent"):
            called(ids, **given, output_attentions=True)
        with pytest.raises(
            TypeError, match=rf"{type(called).__name__}\(\) got .* 'all_logit'.* it takes input_ids, att.* leave all_"
        ):
            called(ids, **given, all_logit=True)


def test_what_belongs_to_another_task_is_an_unknown_keyword() -> None:
    body = T5Model(T5Config(vocab_size=13, d_model=8, d_kv=3, num_heads=2, d_ff=11, num_layers=2), rng=0)
    with pytest.raises(TypeError, match=r"T5Model.* 'all_logits'"):
        body(IDS, decoder_input_ids=IDS, all_logits=True)
    with pytest.raises(TypeError, match=r"BertForSequenceClassification.* 'all_logits'"):
        tiny_bert()(IDS, all_logits=True)
