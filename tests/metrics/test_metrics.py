"""Each measure against values worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from npora import metrics
from npora.metrics.bleu import words
from npora.metrics.rouge import longest_common

P, T = [1, 0, 1, 1, 0, 0], [1, 0, 0, 1, 1, 0]  # two of each kind right, one wrong each way


def test_classes() -> None:
    assert metrics.accuracy(P, T) == 4 / 6
    assert metrics.f1(P, T) == 2 * 2 / (3 + 3)
    assert metrics.matthews(P, T) == (2 * 2 - 1 * 1) / math.sqrt(3 * 3 * 3 * 3)
    three, wanted = [0, 1, 2, 2, 2], [0, 2, 2, 1, 2]  # F1 of 0: 1, of 1: 0, of 2: 2·2/(3 + 3)
    assert metrics.f1(three, wanted, "macro") == (1 + 0 + 2 / 3) / 3
    assert metrics.f1(three, wanted, "weighted") == (1 * 1 + 1 * 0 + 3 * 2 / 3) / 5
    assert metrics.f1([0, 0, 0], [0, 1, 1], "weighted") == 1 * (2 / 4) / 3
    assert metrics.f1(three, wanted, "micro") == metrics.accuracy(three, wanted) == 3 / 5
    assert metrics.matthews(three, wanted) == (5 * 3 - 11) / (25 - 11)  # p·t = Σ p² = Σ t² = 11
    assert metrics.matthews([0, 0], [0, 1]) == 0.0


def test_classes_that_do_not_exclude_each_other() -> None:
    found, wanted = [[1, 0, 0], [1, 1, 0]], [[1, 0, 0], [0, 1, 0]]  # F1: 2/3, 1, and 0 where there is none
    assert metrics.accuracy(found, wanted) == 0.5
    assert metrics.f1(found, wanted, "macro") == pytest.approx((2 / 3 + 1) / 3)
    assert metrics.f1(found, wanted, "micro") == 2 * 2 / (3 + 2)
    assert metrics.f1(found, wanted, "weighted") == pytest.approx((2 / 3 + 1) / 2)
    assert metrics.f1(found, [[0, 0, 0]] * 2, "weighted") == 0.0  # of no example's classes
    assert metrics.f1([[1, 0, 0, 0]], [[1, 0, 0, 0]], "micro") == 1.0
    assert metrics.f1([[0, 1]] * 3, [[1, 1], [0, 0], [0, 0]], "macro") == (0 + 2 * 1 / (3 + 1)) / 2
    assert metrics.f1([[1, 1], [0, 1], [0, 1]], [[1, 1], [0, 0], [0, 0]], "macro") == (1 + 2 * 1 / (3 + 1)) / 2


def test_numbers() -> None:
    assert metrics.pearson([1, 2, 3], [2, 4, 6]) == pytest.approx(1, rel=1e-12)
    assert metrics.pearson([1, 2, 3], [3, 1, 2]) == pytest.approx(-0.5)
    assert metrics.spearman([1, 10, 100], [2, 3, 1]) == pytest.approx(-0.5)
    assert metrics.spearman([1, 1, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))  # ranks ½ ½ 2 3
    assert math.isnan(metrics.pearson([1, 1], [1, 2]))
    assert metrics.rmse([1, 2], [1, 5]) == math.sqrt(9 / 2)


def test_entities() -> None:
    tags = ["B-PER", "I-PER", "O", "I-LOC", "B-LOC", "E-LOC", "E-LOC", "S-PER", "I-PER", "I-LOC", "B"]
    assert metrics.entities(tags) == [
        ("PER", 0, 1), ("LOC", 3, 3), ("LOC", 4, 5), ("LOC", 6, 6), ("PER", 7, 7), ("PER", 8, 8), ("LOC", 9, 9),
        ("_", 10, 10),
    ]  # fmt: skip
    assert metrics.entities(["BLOC", "I-LOC"]) == [("LOC", 0, 1)]  # with or without the hyphen
    wanted = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-PER"]]
    found = [["B-PER", "O", "O", "B-LOC"], ["O", "B-PER"]]  # a span that ends too early counts for nothing
    assert metrics.entity_f1(found, wanted) == 2 * 2 / (3 + 3)
    assert math.isnan(metrics.entity_f1([["O"]], [["O"]]))


def test_rouge_l() -> None:
    # Lin's own example: police kill the gunman, and police killed the gunman.
    assert metrics.rouge_l(["police kill the gunman"], ["Police killed the gunman!"]) == 2 * 3 / (4 + 4)
    assert metrics.rouge_l(["the gunman kill police"], ["police killed the gunman"]) == 2 * 2 / (4 + 4)
    assert metrics.rouge_l(["a b", ""], ["a c", "x"]) == (0.5 + 0) / 2
    assert longest_common("abcbdab", "bdcaba") == 4 and longest_common("", "a") == 0 and longest_common("a", "aa") == 1


def test_bleu() -> None:
    text, reference = "the cat sat on the mat", "the cat is on the mat"  # p = 5/6, 3/5, 1/4, 0 → ½/3
    assert metrics.bleu([text], [reference]) == pytest.approx(100 * (5 / 6 * 3 / 5 * 1 / 4 * 0.5 / 3) ** 0.25)
    assert metrics.bleu(["the the the the"], ["the cat sat down"]) == pytest.approx(
        100 * (1 / 4 * 0.5 / 3 * 0.25 / 2 * 0.125 / 1) ** 0.25
    )
    short = metrics.bleu(["a b c d"], ["a b c d e f"])
    assert short == pytest.approx(100 * math.exp(1 - 6 / 4))
    assert metrics.bleu(["a b c d", "x"], ["a b c d", "y"]) == pytest.approx(100 * 0.8**0.25)  # 4 of 5 words
    longer = metrics.bleu(["a b c d e f"], ["a b c d e"])  # gets nothing for its length
    assert longer == pytest.approx(100 * (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25)
    assert metrics.bleu(["a b c"], ["a b c"]) == 0.0  # no run of four words
    assert metrics.bleu(["a b c d"], ["w x y z"]) == 0.0
    assert words('It costs 1,000.5, "no" &amp; e.g. 3-4, a-b.') == [
        *("It", "costs", "1,000.5", ",", '"', "no", '"', "&", "e", ".", "g", "."),
        *("3", "-", "4", ",", "a-b", "."),
    ]


def test_texts() -> None:
    assert metrics.exact_match([" a", "b", "C"], ["a ", "x", "c"]) == 1 / 3
    assert metrics.perplexity(math.log(3)) == pytest.approx(3) and metrics.perplexity(1e4) == math.inf
    assert metrics.perplexity(709) == math.exp(709) and metrics.perplexity(-1e4) == 0 < metrics.perplexity(-700)


@pytest.mark.parametrize("measure", [metrics.accuracy, metrics.f1, metrics.matthews, metrics.pearson, metrics.spearman])
@pytest.mark.parametrize("predicted, true", [([], []), ([1], [1, 0])])
def test_a_prediction_is_needed_for_each_label(measure: Callable[..., float], predicted: Any, true: Any) -> None:
    with pytest.raises(ValueError, match="a prediction and a label are needed for each example; got"):
        measure(predicted, true)


@pytest.mark.parametrize("measure", [metrics.rouge_l, metrics.bleu, metrics.exact_match])
def test_a_text_is_needed_for_each_reference(measure: Callable[[Sequence[str], Sequence[str]], float]) -> None:
    for predicted, references in (([], []), (["a"], [])):
        with pytest.raises(ValueError, match="a text and a reference are needed each; got"):
            measure(predicted, references)
    with pytest.raises(ValueError, match="a list of texts and a list of references are needed; got a text alone"):
        measure("a", "a")


def test_what_is_measured_wrongly_is_said() -> None:
    with pytest.raises(ValueError, match="average must be 'binary', 'macro', 'micro' or 'weighted'; got 'mean'"):
        metrics.f1(P, T, "mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="average='binary' is of the classes 0 and 1; of more pass 'macro'"):
        metrics.f1([2, 1], [1, 1])
    with pytest.raises(ValueError, match="a tag is needed for each word of each text"):
        metrics.entity_f1([["O"]], [["O", "O"]])


def test_answers_to_questions() -> None:
    found, right = ["The Café Rouge, by a river!", "blue"], [["x", "cafe"], ["a Blue", "red"]]
    assert metrics.squad_exact_match(found, right) == 0.5
    assert metrics.squad_f1(found, [["rouge river", "café café"], ["Red"]]) == (2 * 2 / (4 + 2) + 0) / 2
    assert metrics.squad_f1(["red red film"], [["red, RED red plot"]]) == 2 * 2 / (3 + 4)
    for measure in (metrics.squad_exact_match, metrics.squad_f1):
        assert measure(["", "the", "red", ""], [[], [""], [], ["red"]]) == 0.5
        for given in (([], []), (["a"], []), ("a", [["a"]]), (["a"], ["a"])):
            with pytest.raises(ValueError, match=r"an answer is needed of each question|a list of answers is needed"):
                measure(*given)
