"""compute_metrics for a Trainer, by what is learnt."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from npora.data.answers import answers_of
from npora.data.collate import IGNORED
from npora.data.dataset import Example
from npora.metrics import accuracy, entity_f1, f1, matthews, pearson, rmse, spearman, squad_exact_match, squad_f1
from npora.metrics.classes import Average
from npora.train import EvalPrediction

NAMES = ("accuracy", "f1", "matthews", "pearson", "spearman", "rmse")


def of_classes(prediction: EvalPrediction) -> dict[str, float]:
    """Of the likeliest class of each example. F1 is that of class 1 where there are two, else the mean over classes."""
    predicted, true = prediction.predictions.argmax(axis=-1), np.asarray(prediction.label_ids)
    average: Average = "binary" if prediction.predictions.shape[-1] == 2 else "macro"
    return {
        "accuracy": accuracy(predicted, true),
        "f1": f1(predicted, true, average),
        "matthews": matthews(predicted, true),
    }


def of_choices(prediction: EvalPrediction) -> dict[str, float]:
    """The share of the examples whose likeliest choice is the right one."""
    predicted, true = prediction.predictions.argmax(axis=-1), np.asarray(prediction.label_ids)
    counted = true != IGNORED
    return {"accuracy": accuracy(predicted[counted], true[counted]) if counted.any() else math.nan}


def of_several_classes(prediction: EvalPrediction) -> dict[str, float]:
    """Of classes that do not exclude each other: F1 of all examples and classes together, nan where there is none."""
    predicted, true = prediction.predictions > 0, np.asarray(prediction.label_ids) > 0.5
    found = f1(predicted.astype(int), true.astype(int), "micro") if (predicted | true).any() else math.nan
    return {"accuracy": accuracy(predicted, true), "f1": found}


def of_numbers(prediction: EvalPrediction) -> dict[str, float]:
    predicted, true = prediction.predictions.reshape(-1), np.asarray(prediction.label_ids)
    return {"pearson": pearson(predicted, true), "spearman": spearman(predicted, true), "rmse": rmse(predicted, true)}


def of_answers(parts: Iterable[Example], may_be_none: bool) -> Callable[[EvalPrediction], dict[str, float]]:
    """Of the answers to questions, in the windows that the predictions are of: SQuAD's exact match and F1."""

    def measured(prediction: EvalPrediction) -> dict[str, float]:
        found = [*answers_of(parts, prediction.predictions, may_be_none)]
        answers, right = [answer for _, answer, _ in found], [window["answers"] for window, _, _ in found]
        return {"exact_match": squad_exact_match(answers, right), "f1": squad_f1(answers, right)}

    return measured


def of_words(id2label: Mapping[int, str]) -> Callable[[EvalPrediction], dict[str, float]]:
    """Of the tags of words: accuracy, and F1 of the entities where tags are as B-PER and I-PER, else of all tags."""
    names = {number: str(name) for number, name in id2label.items()}
    has_entities = any(name.startswith(("B-", "I-")) for name in names.values())

    def measured(prediction: EvalPrediction) -> dict[str, float]:
        predicted, true = prediction.predictions.argmax(axis=-1), np.asarray(prediction.label_ids)
        counted = true != IGNORED
        found = {"accuracy": accuracy(predicted[counted], true[counted])}
        if not has_entities:
            return {**found, "f1": f1(predicted[counted], true[counted], "macro")}
        tags = [
            [[names[int(tag)] for tag in row[own]] for row, own in zip(side, counted, strict=True)]
            for side in (predicted, true)
        ]
        return {**found, "f1": entity_f1(*tags)}

    return measured
