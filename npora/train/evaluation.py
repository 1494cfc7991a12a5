"""A model's predictions for a dataset, and what is measured on them."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from npora.machine.heap import keeping_freed_memory
from npora.nn import Module
from npora.nn.evaluating import evaluating
from npora.nn.module import Array
from npora.nn.readable import named_tuple
from npora.train.batches import Batch, naming_examples
from npora.train.micro_batches import infer
from npora.train.writing import Writer

NO_LABELS = "no example has labels: name their column labels, label or label_ids"


class EvalPrediction(NamedTuple):
    """What compute_metrics is given, by name or as a pair: predictions (logits [n,v]) and label_ids [n]."""

    predictions: Array
    label_ids: Array | None

    def __repr__(self) -> str:
        return named_tuple(self)


class PredictionOutput(NamedTuple):
    predictions: Array
    label_ids: Array | None
    metrics: dict[str, Any]

    def __repr__(self) -> str:
        return named_tuple(self)


Metrics = Callable[[EvalPrediction], Mapping[str, Any]]


def stream_logits(model: Module, batches: Iterable[Batch]) -> Iterator[Array]:
    """The logits of each batch, in order, as soon as they are computed.

    Between two batches nothing of the model or of the thread is other than it was, so that whoever reads may train.
    """
    for batch in batches:
        with evaluating(model):
            logits = infer(model, batch).logits
        yield np.asarray(logits)


def measure(
    model: Module,
    batches: Iterable[Batch],
    after_batch: Callable[[], None],
    compute_metrics: Metrics | None = None,
    preprocess: Callable[[Array, Array | None], Array] | None = None,
    keep_logits: bool = True,
    write: Writer | None = None,
) -> tuple[PredictionOutput, float]:
    """The logits of every example, in order; with labels the mean loss and the metrics. And how many labels that mean
    is over: with none it is nan, and why_no_loss() tells the cause.

    Where examples are sequences of several lengths, predictions are padded with zeros and label_ids with −100.
    preprocess(logits, labels) is kept in the place of a batch's logits, and write(batch), where there is one.

    Raises
    ------
    ValueError: labels in some batches and not in others.  TypeError: metrics that are no dict.
    """
    start, loss_sum, items, examples = time.perf_counter(), 0.0, 0.0, 0
    logits: list[Array] = []
    labels: list[Array] = []
    count = 0
    with keeping_freed_memory(), evaluating(model):
        for batch in batches:
            count += 1
            if examples and ("labels" in batch) != bool(labels):
                raise ValueError(
                    f"some examples have labels, and others do not: from example {examples} on it is the other way"
                )
            numbers = range(examples, examples + len(next(iter(batch.values()))))
            with naming_examples(numbers):
                if write is None or "labels" in batch:  # a decoder that writes reads what it wrote
                    found = infer(model, batch, keep_logits and write is None)
                kept = found.logits if write is None else write(batch)
            examples = numbers.stop
            if kept is not None:
                logits.append(kept if preprocess is None else np.asarray(preprocess(kept, batch.get("labels"))))
            if "labels" in batch:
                labels.append(batch["labels"])
                loss_sum += found.loss_sum
                items += found.items
            after_batch()
    predictions, label_ids = (
        _joined(logits, 0 if write is None else write.pad_token_id),
        _joined(labels, -100) if labels else None,
    )
    metrics: dict[str, Any] = {}
    if label_ids is not None:
        metrics["loss"] = loss_sum / items if items else math.nan
        if compute_metrics is not None:
            computed = compute_metrics(EvalPrediction(predictions, label_ids))
            if not isinstance(computed, Mapping):
                kind = type(computed).__name__
                raise TypeError(f"compute_metrics must return a dict of names and numbers; got {kind}")
            metrics.update({name: _plain(value) for name, value in computed.items()})
    seconds = time.perf_counter() - start
    metrics.update(runtime=seconds, samples_per_second=examples / seconds, steps_per_second=count / seconds)
    return PredictionOutput(predictions, label_ids, metrics), items


def _plain(value: Any) -> Any:
    """A number of NumPy's as Python's; a whole one that is more than any float is inf."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return math.inf if value > 0 else -math.inf
    return value


def why_no_loss(prediction: PredictionOutput) -> str:
    if prediction.label_ids is None:
        return NO_LABELS
    return "no label counts: all are −100, or have no token before them. Was every completion cut off (max_length)?"


def prefixed(metrics: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The metrics under names that begin with the prefix."""
    return {name if name.startswith(f"{prefix}_") else f"{prefix}_{name}": value for name, value in metrics.items()}


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
