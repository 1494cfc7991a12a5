"""What a model predicts, as a line for each example."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from npora.data.collate import IGNORED
from npora.nn.functional import softmax
from npora.nn.module import Array


def _names(config: Any) -> list[str]:
    return [str(i) if name == f"LABEL_{i}" else name for i, name in sorted(config.id2label.items())]


def tags(logits: Array, first: Sequence[Sequence[int]], config: Any) -> Iterator[str]:
    """The tags of each text's words, by the logits [n,t,v] of the first token of each."""
    names = _names(config)
    for row, labels in zip(logits.argmax(axis=-1), first, strict=True):
        yield " ".join(names[tag] for tag, label in zip(row, labels, strict=False) if label != IGNORED)


def choices(logits: Array) -> Iterator[str]:
    """The likeliest choice of each example, and its probability, by the logits [n,c]."""
    probabilities, _ = softmax(logits)
    yield from (f"{p.argmax()}\t{p.max():.4f}" for p in probabilities)


def classes(logits: Array, config: Any) -> Iterator[str]:
    """What the logits [n,v] of each example say under a model's config."""
    names = _names(config)
    if config.problem_type == "regression" or config.num_labels == 1:
        yield from ("\t".join(f"{value:.4f}" for value in z) for z in logits)
    elif config.problem_type == "multi_label_classification":
        for example in logits:
            p = {name: 1 / (1 + math.exp(-z)) for name, z in zip(names, example, strict=True) if z > 0}
            yield ",".join(p) + "\t" + ",".join(f"{value:.4f}" for value in p.values())
    else:
        probabilities, _ = softmax(logits)
        yield from (f"{names[int(p.argmax())]}\t{p.max():.4f}" for p in probabilities)
