"""What whole models are called with: three sentences, and what is to be said of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npora.catalogue.row import Draw, Drawn, Draws, call, fixed
from npora.lora import LoraConfig, get_peft_model
from npora.models.pretrained import Factory
from npora.nn import Module
from npora.nn.module import Array

WORDS = 8  # in the vocabulary of each
Labels = Callable[[Draw, Array, Array], Array]  # by the mask and the ids
OfIds = Callable[[Array], Array]


def chooser(kind: Any, config: Any) -> Draws:
    """A model of multiple choice over two examples of three choices, of one token to three."""

    def drawn(d: Draw) -> Drawn:
        lengths = d.rng.integers(1, 4, size=(2, 3))
        lengths[0, 0] = 3
        mask = np.arange(lengths.max()) < lengths[..., None]
        keywords: dict[str, Any] = {"input_ids": d.rng.integers(2, WORDS, mask.shape), "attention_mask": mask}
        keywords["labels"] = d.rng.integers(0, 3, 2)
        return call(d.moved(kind(config, rng=0)), **keywords, rng=np.random.default_rng(4))

    return drawn


def part(kind: Callable[..., Module], config: Any, *inputs: Array | tuple[int, ...], **keywords: Any) -> Draws:
    """A layer of a model."""
    return fixed(lambda: kind(config, Factory(1, np.float32, 0.02)), *inputs, rng=np.random.default_rng(8), **keywords)


def encoder(kind: Any, config: Any, labels: Labels | None = None, *, adapted: bool = False, **more: OfIds) -> Draws:
    """A model over sentences from one token on. `more` keywords are made of the ids."""
    lora = LoraConfig(r=2, lora_alpha=3, lora_dropout=0.1, task_type="SEQ_CLS") if adapted else None
    return _whole(lambda d: kind(config, rng=0), labels, lora, more, shortest=1, lowest=2, seed=4)


def decoder(kind: Any, config: Any, labels: Labels | None = None, *, adapted: bool = False, **more: OfIds) -> Draws:
    """The same from three tokens on: a query that is learnt from must have two keys to weigh. A config may be drawn."""
    lora = LoraConfig(r=3, lora_alpha=5, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM")

    def make(d: Draw) -> Module:
        made: Module = kind(config(d) if callable(config) else config, rng=0)
        return made

    return _whole(make, labels, lora if adapted else None, more, shortest=3, lowest=1, seed=5)


def _whole(
    make: Callable[[Draw], Module], labels: Labels | None, lora: LoraConfig | None, more: dict[str, OfIds],
    *, shortest: int, lowest: int, seed: int,
) -> Draws:  # fmt: skip
    """Three sentences of up to five tokens, with ids from `lowest` on; `seed` is dropout's."""

    def drawn(d: Draw) -> Drawn:
        model = make(d) if lora is None else get_peft_model(make(d), lora)
        lengths = d.rng.integers(shortest, 6, size=3)
        lengths[0] += lengths.max() == 1  # or there would be nothing to weigh, and no gradient of queries and keys
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = d.rng.integers(lowest, WORDS, mask.shape)
        keywords: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
        if labels is not None:
            keywords["labels"] = labels(d, mask, ids)
        keywords |= {name: function(ids) for name, function in more.items()}
        return call(d.moved(model), **keywords, rng=np.random.default_rng(seed))

    return drawn


def of_sentences(d: Draw, mask: Array, ids: Array) -> Array:
    """One of three classes each."""
    return d.rng.integers(0, 3, len(ids))


def several(d: Draw, mask: Array, ids: Array) -> Array:
    """Any of three classes each."""
    return (d.rng.random((len(ids), 3)) < 0.5).astype(float)


def of_tokens(classes: int) -> Labels:
    """One of so many classes for some of the tokens."""

    def labels(d: Draw, mask: Array, ids: Array) -> Array:
        drawn = np.where(d.rng.random(mask.shape) < 0.5, d.rng.integers(0, classes, mask.shape), -100)
        drawn[:, 0] = drawn[:, 0].clip(0)
        return np.where(mask, drawn, -100)

    return labels


def answers(d: Draw, mask: Array, ids: Array) -> Array:
    """int [b,2]: the first and the last token of an answer, which for the last text is not there."""
    spans = np.sort(d.rng.integers(0, mask.sum(axis=1)[:, None], (len(mask), 2)), axis=1)
    columns = np.array([np.flatnonzero(real)[span] for real, span in zip(mask, spans, strict=True)])
    columns[-1] = -100
    return columns


def next_tokens(d: Draw, mask: Array, ids: Array) -> Array:
    return np.where(mask, ids, -100)
