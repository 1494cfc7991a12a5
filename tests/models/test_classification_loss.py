"""Which loss labels mean, and what is said of those that mean none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.models.losses import classification_loss
from npora.nn import cross_entropy
from tests.tiny import tiny_bert

LOGITS = np.random.default_rng(3).standard_normal((4, 3))


def test_whole_numbers_and_floats_of_several_labels_mean_the_same() -> None:
    """So a batch in which all happen to be 0 and 1 has the loss that the others have."""
    labels = np.array([[0, 1, 0], [1, 1, 0], [0, 0, 0], [1, 0, 1]])
    expected = -np.where(labels == 1, -np.log1p(np.exp(-LOGITS)), -np.log1p(np.exp(LOGITS))).mean()
    for dtype in (bool, np.int64, np.float16, np.float64):
        loss, _, count = classification_loss(LOGITS, labels.astype(dtype))
        assert loss == pytest.approx(expected, rel=1e-12) and count == 12


def test_a_class_may_stand_in_a_column() -> None:
    labels = np.array([2, 0, -100, 1])
    expected = classification_loss(LOGITS, labels)
    for column in (labels[:, None], labels.astype(np.int16)):
        loss, backward, count = classification_loss(LOGITS, column)
        assert (loss, count) == (expected[0], 3) and np.array_equal(backward(0.7), expected[1](0.7))


@pytest.mark.parametrize("problem_type", [None, "single_label_classification"])
@pytest.mark.parametrize("labels", [np.array([0.0, 1.0, 2.0, 0.0]), np.array([True, False, True, True])])
def test_a_class_that_is_no_whole_number_is_told_what_it_must_be(labels: Any, problem_type: str | None) -> None:
    with pytest.raises(ValueError, match=rf"labels {labels.dtype} of shape \(4,\): a class is a whole number 0 … 2"):
        classification_loss(LOGITS, labels, problem_type)


@pytest.mark.parametrize(
    ("labels", "problem_type", "message"),
    [
        (np.zeros((4, 2), int), None, r"labels int64 of shape \(4, 2\) for 4 rows: .* head of 3 classes"),
        (np.zeros(3, int), None, r"of shape \(3,\) for 4 rows: a class for each is \[4\]"),
        (np.zeros((4, 2)), "regression", r"of shape \(4, 2\) for regression: expected \[4, 3\]"),
        (np.zeros(4), "multi_label_classification", r"expected \[4, 3\]"),
        (np.full((4, 3), 2.5), None, "label 2.5 in row 0 for multi_label_classification: .*problem_type='regression'"),
        (np.array([[0.0, 1, 1], [1, -100, 0], [0, 0, 0], [1, 1, 1]]), None, r"label -100.0 in row 1"),
        (np.zeros(4, int), "binary", "problem_type must be one of regression"),
    ],
)
def test_labels_that_do_not_fit_are_told_what_would(labels: Any, problem_type: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification_loss(LOGITS, labels, problem_type)


def test_the_model_says_so_too() -> None:
    with pytest.raises(ValueError, match="a class is a whole number 0 … 2: turn labels into integers"):
        tiny_bert()(np.array([[3, 4]]), labels=np.array([1.0]))


def test_cross_entropy_says_what_it_takes() -> None:
    with pytest.raises(ValueError, match=r"logits \[n,v\].* got float64\[2,4,3\] .*logits\.reshape\(-1, 3\)"):
        cross_entropy(np.zeros((2, 4, 3)), np.zeros((2, 4), int))
    with pytest.raises(ValueError, match="expected integer targets, the classes' numbers"):
        cross_entropy(LOGITS, np.zeros(4))
    with pytest.raises(ValueError, match=r"int64\[2\]: expected 4 integer targets, one for each row"):
        cross_entropy(LOGITS, np.zeros(2, int))
