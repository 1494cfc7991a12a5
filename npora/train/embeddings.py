"""Training of sentence embeddings, with the losses that sentence-transformers has."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from npora.data import Dataset
from npora.data.alike import encode_alike, texts_of
from npora.metrics import accuracy, pearson, spearman
from npora.models.embedding import SentenceEmbedding
from npora.models.outputs import Output
from npora.nn import Module
from npora.nn.functional import (
    cosent_loss,
    cosine_similarity,
    mse_loss,
    multiple_negatives_ranking_loss,
    triplet_loss,
    unit,
)
from npora.nn.module import Array
from npora.train.arguments import TrainingArguments
from npora.train.batches import Example, base_of
from npora.train.evaluation import EvalPrediction
from npora.train.objective import Objective, check_above_zero, refuse_another_loss
from npora.train.trainer import Trainer

logger = logging.getLogger("npora")

RANKING, TRIPLET, COSINE, COSENT = "multiple-negatives-ranking", "triplet", "cosine", "cosent"
LOSSES = (RANKING, TRIPLET, COSINE, COSENT)
# What each is of: whether examples have a score, and how many texts, where not any number does.
_OF: dict[str, tuple[bool, int | None]] = {RANKING: (False, None), TRIPLET: (False, 3), COSINE: (True, 2),
                                           COSENT: (True, 2)}  # fmt: skip
_AT_ONCE = 1024  # texts, each compared with all others


@dataclass
class AlikeOutput(Output):
    """loss; logits [b,k,m], the embeddings of the k texts of each example; num_items, the number of examples."""

    loss: Any
    logits: Array
    num_items: int = 0


class Alike(Objective):
    """A model of sentence embeddings on texts that are alike or not.

    forward(input_ids [b,t], lengths int [b,k], labels [b]): a row of input_ids is the k texts of an example, one behind
    the other. All texts of all rows are one packed batch.

    loss : of the embeddings e [b,k,m] and labels [b] → (ℓ, pullback dℓ → de [b,k,m])
    is_whole : whether ℓ compares the examples of a batch, which then is not cut
    """

    def __init__(self, model: Module, loss: Callable[..., Any], is_whole: bool) -> None:
        super().__init__(model)
        self.loss, self.is_whole = loss, is_whole

    def forward(
        self, input_ids: Array, lengths: Array, labels: Array, attention_mask: Array | None = None,
        rng: np.random.Generator | None = None,
    ) -> tuple[AlikeOutput, Callable[..., None]]:  # fmt: skip
        base, (b, k) = base_of(self.model), lengths.shape
        ends = np.cumsum(lengths, axis=1)  # [b,k]
        texts = [
            ids[end - length : end]
            for ids, row, each in zip(input_ids, ends, lengths, strict=True)
            for end, length in zip(row, each, strict=True)
        ]
        rows, back_e = base.sentence_embeddings(base.packed(texts), rng)  # [bk,m]
        e = rows.reshape(b, k, -1)  # [b,k,m]
        loss, back_loss = self.loss(e, labels)

        def backward(dloss: Any = 1.0) -> None:
            back_e(back_loss(dloss).reshape(rows.shape))  # [b,k,m] → [bk,m]

        return AlikeOutput(loss, e, b), backward


def ranking(e: Array, labels: Array, *, scale: float) -> tuple[Any, Callable[..., Array]]:
    """multiple_negatives_ranking_loss of the first texts, whose candidates are the others of all examples."""
    b, k, m = e.shape
    candidates = e[:, 1:].swapaxes(0, 1).reshape(-1, m)  # [b,k−1,m] → [(k−1)b,m]; the second texts first
    loss, back = multiple_negatives_ranking_loss(e[:, 0], candidates, scale)

    def backward(dloss: Any) -> Array:
        danchors, dcandidates = back(dloss)
        others = dcandidates.reshape(k - 1, b, m).swapaxes(0, 1)  # [b,k−1,m]
        return np.concatenate((danchors[:, None], others), axis=1)  # [b,k,m]

    return loss, backward


def triplets(e: Array, labels: Array, *, margin: float) -> tuple[Any, Callable[..., Array]]:
    """triplet_loss of each example's three texts."""
    loss, back = triplet_loss(e[:, 0], e[:, 1], e[:, 2], margin)
    return loss, lambda dloss: np.stack(back(dloss), axis=1)  # [b,3,m]


def scored(e: Array, labels: Array, *, of: Callable[..., Any]) -> tuple[Any, Callable[..., Array]]:
    """A loss of the cosine of each example's two texts and its label."""
    cosines, back_cosines = cosine_similarity(e[:, 0], e[:, 1])  # [b]
    loss, back = of(cosines, labels.astype(e.dtype))
    return loss, lambda dloss: np.stack(back_cosines(back(dloss)), axis=1)  # [b,2,m]


def squared(cosines: Array, labels: Array) -> tuple[Any, Callable[..., Array]]:
    """mse_loss. Raises ValueError for a label that no cosine is."""
    if (far := np.abs(labels).max(initial=0)) > 1:
        raise ValueError(f"the loss {COSINE} is of scores between -1 and 1, as cosines are; got {far:g}: scale them")
    return mse_loss(cosines, labels)


class EmbeddingTrainer(Trainer):
    """Trains a model of sentence embeddings, or the adapter on one, so that texts that are alike lie side by side.

    model : of AutoModelForSentenceEmbedding
    train_dataset, eval_dataset : dicts whose strings, in their order, are the texts of an example (anchor and positive;
        anchor, positive and negative; sentence1 and sentence2 …), and whose label, labels, score or scores is a number;
        or what data.alike.encode_alike made of them. All have as many texts
    loss : "multiple-negatives-ranking" (Henderson et al., 2017), of pairs and triplets: the other examples of the batch
        are the wrong answers; "triplet" (Schroff et al., 2015); of pairs with a score "cosine", the mean squared error
        of the cosine, whose scores are between −1 and 1, and "cosent" (Su, 2022), where their order counts alone.
        Unless given cosent where examples have scores, else multiple-negatives-ranking
    scale, margin : as of nn.functional's losses
    max_length : of the tokens of each text; what the model's form says unless given
    keywords : Trainer's

    evaluate() has Spearman's and Pearson's correlation of cosines and scores where one is not 1, the share of triplets
    whose positive is nearer, and else the share of first texts whose own second text is the most alike of all. An
    eval_dataset may be of another kind, as pairs with scores where pairs without are learnt: its loss is then the usual
    one of its kind.

    Raises
    ------
    ValueError: a loss that does not fit the train_dataset, or examples that do not fit each other; another loss
    besides; batches of one example, where others are what it is compared with; a scale or margin that is not above 0.
    TypeError: a model without sentence embeddings.
    """

    def __init__(
        self,
        model: Module,
        args: TrainingArguments | None = None,
        train_dataset: Sequence[Example] | None = None,
        eval_dataset: Sequence[Example] | Mapping[str, Sequence[Example]] | None = None,
        processing_class: Any = None,
        *,
        loss: str | None = None,
        scale: float = 20.0,
        margin: float = 5.0,
        max_length: int | None = None,
        **keywords: Any,
    ) -> None:
        base = base_of(model)
        if not isinstance(base, SentenceEmbedding):
            raise TypeError(f"a model of AutoModelForSentenceEmbedding is expected; got a {type(base).__name__}")
        refuse_another_loss(self, args, keywords)
        check_above_zero(scale=scale, margin=margin)
        tokenizer = keywords.get("tokenizer") if processing_class is None else processing_class
        prepare = partial(
            _prepared, tokenizer=tokenizer, max_length=base.form.max_seq_length if max_length is None else max_length
        )
        if isinstance(eval_dataset, Mapping):
            eval_dataset = {name: prepare(data) for name, data in eval_dataset.items()}
        elif eval_dataset is not None:
            eval_dataset = prepare(eval_dataset)
        train_dataset = None if train_dataset is None else prepare(train_dataset)
        several = eval_dataset if isinstance(eval_dataset, Mapping) else {"": eval_dataset}
        first = next((data[0] for data in (train_dataset, *several.values()) if data is not None and len(data)), None)
        self._losses = _losses(scale, margin)
        if loss is None:
            loss = RANKING if first is None else _loss_of(first)
        if loss not in self._losses:
            raise ValueError(f"loss must be {', '.join(self._losses)}; got {loss!r}")
        if train_dataset is not None and len(train_dataset) and not _fits(train_dataset[0], loss):
            raise _misfit(train_dataset[0], loss)
        self._loss_name = loss
        if loss in (RANKING, COSENT) and train_dataset is not None and len(train_dataset):
            in_a_batch = min(len(train_dataset), (args or TrainingArguments()).per_device_train_batch_size)
            if in_a_batch == 1 and len(train_dataset[0]["lengths"]) == 2:
                raise ValueError(
                    f"the loss {loss} compares the examples of a batch, and there is one alone: nothing is learnt. "
                    "Take more examples and a greater per_device_train_batch_size (--batch-size)"
                )
        super().__init__(
            model, args, train_dataset, eval_dataset, processing_class, **{"compute_metrics": alike, **keywords}
        )
        self._compute_loss = self._losses[loss]
        self._objective = self._alike(loss)
        self._batches.names |= {"lengths", "labels"}

    def _alike(self, loss: str) -> Alike:
        return Alike(self.model, self._losses[loss], loss in (RANKING, COSENT))

    def _measured_by(self, data: Sequence[Example]) -> Module:
        """What is learnt, or on examples that its loss is not of their own usual loss."""
        if _fits(data[0], self._loss_name):
            return self.objective()
        own = _loss_of(data[0])
        logger.info("the loss %s is not of these examples: their loss is that of %s", self._loss_name, own)
        return self._alike(own)


def _losses(scale: float, margin: float) -> dict[str, Any]:
    return {
        RANKING: partial(ranking, scale=scale), TRIPLET: partial(triplets, margin=margin),
        COSINE: partial(scored, of=squared), COSENT: partial(scored, of=partial(cosent_loss, scale=scale)),
    }  # fmt: skip


def _loss_of(example: Example) -> str:
    return COSENT if example.get("is_scored") else RANKING


def _fits(example: Example, loss: str) -> bool:
    """Whether an example is what a loss is of."""
    (is_scored, texts), own = _OF[loss], len(example.get("lengths", ()))
    return bool(example.get("is_scored")) == is_scored and own == (texts or own)


def _misfit(example: Example, loss: str) -> ValueError:
    """Of the first example; the others are as it, or no batch."""
    is_scored, texts = _OF[loss]
    wanted = f"{texts or 'two texts or more'}{' texts' * bool(texts)}"
    return ValueError(
        f"the loss {loss} is of examples of {wanted} {'with' if is_scored else 'without'} a score; got "
        f"{len(example['lengths'])} texts {'with' if example.get('is_scored') else 'without'} one"
    )


def alike(prediction: EvalPrediction) -> dict[str, float]:
    """What the embeddings [n,k,m] of examples and their labels [n] say."""
    e, labels = prediction.predictions, np.asarray(prediction.label_ids)
    u = unit(e)[0]  # [n,k,m]
    cosines = (u[:, :1] * u[:, 1:]).sum(axis=-1)  # [n,k−1]
    if (labels != 1).any():  # scores
        return {"spearman": spearman(cosines[:, 0], labels), "pearson": pearson(cosines[:, 0], labels)}
    if cosines.shape[1] > 1:
        return {"accuracy": float((cosines[:, 0] > cosines[:, 1:].max(axis=1)).mean())}
    starts = range(0, len(u), _AT_ONCE)
    found = np.concatenate([(u[i : i + _AT_ONCE, 0] @ u[:, 1].T).argmax(axis=1) for i in starts])  # [n]
    return {"accuracy": accuracy(found, np.arange(len(found)))}


def _prepared(data: Any, tokenizer: Any, max_length: int | None) -> Any:
    if len(data) and isinstance(data[0], Mapping) and "input_ids" in data[0]:
        return data
    if tokenizer is None:
        raise ValueError("texts need a tokenizer: pass it as processing_class")
    found: list[dict[str, Any]] = []
    for number, example in enumerate(data):
        if not isinstance(example, Mapping):
            raise ValueError(f"example {number}: a dict of texts is expected; got a {type(example).__name__}")
        texts, score = texts_of(example)
        try:
            found.append(encode_alike(tokenizer, texts, score, max_length))
        except (ValueError, TypeError) as error:
            raise ValueError(f"example {number}: {error}") from None
        first, own = ((len(one["lengths"]), one["is_scored"]) for one in (found[0], found[-1]))
        if own != first:
            said = [f"{texts} texts {'with' if is_scored else 'without'} a score" for texts, is_scored in (own, first)]
            raise ValueError(f"example {number} has {said[0]}, and example 0 {said[1]}: all must be alike")
    return Dataset(found)
