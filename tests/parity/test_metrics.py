"""What is measured, against scikit-learn, scipy, seqeval, rouge-score and sacrebleu."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora import metrics
from tests.made_tokenizers import texts

CLASSES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12)
NUMBERS = st.lists(st.tuples(st.integers(-3, 3), st.floats(-9, 9, width=16)), min_size=2, max_size=12)
TAGS = st.sampled_from(["O", "B-X", "I-X", "E-X", "S-X", "B-Y", "I-Y", "I", "B"])
TAGGED = st.lists(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=9), min_size=1, max_size=3)
WORDS = st.lists(
    st.sampled_from(["the", "cat", "The", "1,000.5", "x-y", "3-4", "&amp;", "e.g.", "-\n", "é", "!"]), max_size=9
)
TEXTS = st.lists(st.tuples(*[WORDS.map(" ".join) | texts(5)] * 2), min_size=1, max_size=4)


@given(CLASSES)
def test_classes_are_measured_as_by_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="needs the extra `parity`")
    predicted, true = zip(*pairs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that there are not
        assert metrics.accuracy(predicted, true) == sklearn.accuracy_score(true, predicted)
        assert metrics.matthews(predicted, true) == pytest.approx(sklearn.matthews_corrcoef(true, predicted), abs=1e-12)
        for average in ("macro", "micro", "weighted"):
            theirs = sklearn.f1_score(true, predicted, average=average, zero_division=0)
            assert metrics.f1(predicted, true, average) == pytest.approx(theirs, abs=1e-12)
        two = np.array(pairs) % 2
        theirs = sklearn.f1_score(two[:, 1], two[:, 0], zero_division=0)
        assert metrics.f1(two[:, 0], two[:, 1]) == pytest.approx(theirs, abs=1e-12)
        several, wanted = np.random.default_rng(len(pairs)).integers(0, 2, (2, len(pairs), 3))
        theirs = sklearn.f1_score(wanted, several, average="micro", zero_division=0)
        assert metrics.f1(several, wanted, "micro") == pytest.approx(theirs, abs=1e-12)
        assert metrics.accuracy(several, wanted) == sklearn.accuracy_score(wanted, several)


@given(NUMBERS)
def test_numbers_are_measured_as_by_scipy(pairs: list[tuple[int, float]]) -> None:
    scipy = pytest.importorskip("scipy.stats", reason="needs the extra `parity`")
    predicted, true = zip(*pairs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant sides
        theirs = scipy.spearmanr(predicted, true).statistic
        assert metrics.spearman(predicted, true) == pytest.approx(theirs, abs=1e-12, nan_ok=True)
        if len({*predicted}) > 1 and np.std(true) > 1e-3:
            assert metrics.pearson(predicted, true) == pytest.approx(
                scipy.pearsonr(predicted, true).statistic, abs=1e-9
            )


@given(TAGGED)
def test_entities_are_those_of_seqeval(tagged: list[list[tuple[str, str]]]) -> None:
    seqeval: Any = pytest.importorskip("seqeval.metrics", reason="needs the extra `parity`")
    labels = pytest.importorskip("seqeval.metrics.sequence_labeling", reason="needs the extra `parity`")
    predicted, true = ([[pair[side] for pair in text] for text in tagged] for side in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert metrics.entities(predicted[0]) == labels.get_entities(predicted[0])
        theirs = seqeval.f1_score(true, predicted, zero_division=0)
    assert np.nan_to_num(metrics.entity_f1(predicted, true)) == pytest.approx(theirs)


@given(TEXTS)
def test_rouge_is_that_of_rouge_score(pairs: list[tuple[str, str]]) -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer", reason="needs the extra `parity`")
    theirs = [scorer.RougeScorer(["rougeL"]).score(reference, text)["rougeL"].fmeasure for text, reference in pairs]
    assert metrics.rouge_l(*zip(*pairs, strict=True)) == pytest.approx(np.mean(theirs), abs=1e-12)


@given(TEXTS)
def test_bleu_is_that_of_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    sacrebleu = pytest.importorskip("sacrebleu", reason="needs the extra `parity`")
    predicted, references = zip(*pairs, strict=True)
    theirs = sacrebleu.corpus_bleu(list(predicted), [list(references)]).score
    assert metrics.bleu(predicted, references) == pytest.approx(theirs, abs=1e-9)
