"""A model's predictions for a dataset, and what is measured on them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npora.nn import Module, no_grad
from npora.nn.module import Array
from npora.nn.readable import Readable

Batch = dict[str, Array]


@dataclass
class EvalPrediction(Readable):
    """What compute_metrics is given: predictions (logits [n,v]) and label_ids [n]."""

    predictions: Array
    label_ids: Array | None


@dataclass
class PredictionOutput(Readable):
    predictions: Array
    label_ids: Array | None
    metrics: dict[str, float]


def predict(
    model: Module,
    batches: Iterable[Batch],
    compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None,
    prefix: str,
    keep_logits: bool,
) -> PredictionOutput:
    """The logits of every row, in order; with labels the mean loss and the metrics, under names that begin with prefix.

    Where rows are sequences of several lengths, predictions are padded with zeros and label_ids with −100.
    """
    start, loss_sum, items, rows = time.perf_counter(), 0.0, 0, 0
    logits, labels = [], []
    with no_grad():
        for batch in batches:
            output, _ = model(**batch)
            rows += len(batch["input_ids"])
            if keep_logits:
                logits.append(output.logits)
            if "labels" in batch:
                labels.append(batch["labels"])
                loss_sum += float(output.loss) * output.num_items
                items += output.num_items
    predictions, label_ids = _joined(logits, 0), _joined(labels, -100) if labels else None
    metrics: dict[str, float] = {}
    if label_ids is not None:
        metrics["loss"] = loss_sum / max(items, 1)
        if compute_metrics is not None:
            metrics.update(compute_metrics(EvalPrediction(predictions, label_ids)))
    seconds = time.perf_counter() - start
    metrics.update(runtime=seconds, samples_per_second=rows / seconds)
    start_of_name = f"{prefix}_"
    named = {k if k.startswith(start_of_name) else start_of_name + k: value for k, value in metrics.items()}
    return PredictionOutput(predictions, label_ids, named)


def _joined(batches: Sequence[Array], fill: float) -> Array:
    """[b,…] and [b′,…] as [b + b′,…]; a second axis that differs is padded to the longest."""
    if not batches:
        return np.zeros(0)
    longest = max((batch.shape[1] for batch in batches if batch.ndim > 1), default=0)
    same = all(batch.ndim == 1 or batch.shape[1] == longest for batch in batches)
    if not same:
        batches = [
            np.pad(b, [(0, 0), (0, longest - b.shape[1]), *[(0, 0)] * (b.ndim - 2)], constant_values=fill)
            for b in batches
        ]
    return np.concatenate(batches)
