"""What stands on top of a model: the losses of the tasks, and rows turned into outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.models.config import PROBLEM_TYPES
from npora.models.outputs import LanguageModelOutput, SequenceClassifierOutput, TokenClassifierOutput
from npora.models.tokens import token_targets
from npora.nn import Module, Padding, binary_cross_entropy, cross_entropy, mse_loss, projected_cross_entropy
from npora.nn.module import Array, Pullback

Back = Callable[[Array], None]
Activation = Callable[[Array], tuple[Array, Pullback]]


def language_modeling(
    h: Array,
    back_h: Back,
    head: Module,
    padding: Padding,
    targets: Array | None,
    rng: np.random.Generator | None = None,
) -> tuple[LanguageModelOutput, Callable[..., None]]:
    """Rows h [n,m] through the projection to the vocabulary.    targets int [n], −100 where there is none

    With targets, backward(dℓ=1); without, backward(dlogits [b,t,v]).
    """
    if targets is None:
        rows, back_head = head(h, rng)  # [n,v]
        logits = padding.unpack(rows)  # [b,t,v]

        def back_logits(dlogits: Array) -> None:
            back_h(back_head(padding.pack(dlogits)))

        return LanguageModelOutput(None, 0, lambda: logits), back_logits
    loss, back_loss, number = projected_cross_entropy(h, targets, head, rng=rng)

    def backward(dloss: Any = 1.0) -> None:
        back_h(back_loss(dloss))

    return LanguageModelOutput(loss, number, lambda: padding.unpack(head(h)[0])), backward


def transformed(
    h: Array, dense: Module, activation: Activation, norm: Module, rng: np.random.Generator | None = None
) -> tuple[Array, Pullback]:
    """z = LN(activation(W h + b)): a row on its way to a masked-language model's vocabulary.    h, z [n,m]"""
    z, back_dense = dense(h, rng)
    z, back_activation = activation(z)
    z, back_norm = norm(z)
    return z, lambda dz: back_dense(back_activation(back_norm(dz)))


def masked_language_modeling(
    h: Array,
    back_h: Back,
    transform: Callable[..., tuple[Array, Pullback]],
    decoder: Module,
    padding: Padding,
    labels: npt.ArrayLike | None,
    rng: np.random.Generator | None = None,
) -> tuple[LanguageModelOutput, Callable[..., None]]:
    """Each row's own token, through decoder(transform(h)).    h [n,m]  labels int [b,t], −100 where there is none

    Only the rows that have a label, one in seven as BERT was trained, are transformed and meet the vocabulary. With
    labels, backward(dℓ=1); without, backward(dlogits [b,t,v]).
    """
    if labels is None:
        z, back_transform = transform(h, rng)
        return language_modeling(z, lambda dz: back_h(back_transform(dz)), decoder, padding, None, rng)
    targets = token_targets(labels, padding)
    labelled = np.flatnonzero(targets != -100)
    z, back_transform = transform(h[labelled], rng)  # [n,m] → [s,m]
    loss, back_loss, number = projected_cross_entropy(z, targets[labelled], decoder, rng=rng)
    shape = h.shape

    def backward(dloss: Any = 1.0) -> None:
        dz = back_transform(back_loss(dloss))
        dh = np.zeros(shape, dtype=dz.dtype)
        dh[labelled] = dz  # [s,m] → [n,m]
        back_h(dh)

    return LanguageModelOutput(loss, number, lambda: padding.unpack(decoder(transform(h)[0])[0])), backward


def sequence_classification(
    logits: Array, back_logits: Back, labels: npt.ArrayLike | None, problem_type: str | None
) -> tuple[SequenceClassifierOutput, Callable[..., None]]:
    """With labels, the loss, and backward(dℓ=1); without, backward(dlogits [b,v])."""
    if labels is None:
        return SequenceClassifierOutput(None, logits), back_logits
    loss, back_loss, number = classification_loss(logits, np.asarray(labels), problem_type)

    def backward(dloss: Any = 1.0) -> None:
        back_logits(back_loss(dloss))

    return SequenceClassifierOutput(loss, logits, number), backward


def token_classification(
    h: Array,
    back_h: Back,
    head: Module,
    padding: Padding,
    labels: npt.ArrayLike | None,
    rng: np.random.Generator | None = None,
) -> tuple[TokenClassifierOutput, Callable[..., None]]:
    """A class for each row.    h [n,m]  labels int [b,t]

    With labels, backward(dℓ=1); without, backward(dlogits [b,t,v]).
    """
    rows, back_head = head(h, rng)  # [n,v]
    logits = padding.unpack(rows)  # [b,t,v]
    if labels is None:

        def back_logits(dlogits: Array) -> None:
            back_h(back_head(padding.pack(dlogits)))

        return TokenClassifierOutput(None, logits), back_logits
    targets = token_targets(labels, padding)
    loss, back_loss = cross_entropy(rows, targets)

    def backward(dloss: Any = 1.0) -> None:
        back_h(back_head(back_loss(dloss)))

    return TokenClassifierOutput(loss, logits, int((targets != -100).sum())), backward


def classification_loss(
    logits: Array, labels: Array, problem_type: str | None = None
) -> tuple[Any, Callable[..., Array], int]:
    """The loss that transformers' `problem_type` means, and over how many numbers it is a mean.    logits [b,v]

    regression: squared error, labels [b] or [b,v]; single_label_classification: cross-entropy, labels int [b] or [b,1],
    −100 where there is none; multi_label_classification: binary cross-entropy, labels [b,v] between 0 and 1. Without a
    type: regression where v = 1, many labels where there are [b,v] of them, else a single one. So the type does not
    depend on which rows are in a batch, nor on the dtype of their labels.

    Raises
    ------
    ValueError: labels of another shape or kind than the loss takes, and what it takes instead.
    """
    rows, classes = logits.shape
    if problem_type is None:
        many = labels.shape == logits.shape
        problem_type = PROBLEM_TYPES[0] if classes == 1 else PROBLEM_TYPES[2] if many else PROBLEM_TYPES[1]
    if problem_type not in PROBLEM_TYPES:
        raise ValueError(f"problem_type must be one of {', '.join(PROBLEM_TYPES)}; got {problem_type!r}")
    found = f"labels {labels.dtype} of shape {labels.shape}"
    if problem_type == "single_label_classification":
        if labels.shape not in ((rows,), (rows, 1)):
            raise ValueError(
                f"{found} for {rows} rows: a class for each is [{rows}]; several labels for each, yes or no, are "
                f"[{rows},{classes}] for this head of {classes} classes (num_labels)"
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(
                f"{found}: a class is a whole number 0 … {classes - 1}: turn labels into integers, as in int(label). "
                "For a number to be predicted, use num_labels=1 and problem_type='regression'; for several labels of "
                f"a row, a row of {classes} zeros and ones"
            )
        loss, back = cross_entropy(logits, labels.reshape(rows))
        return loss, back, int((labels != -100).sum())
    if labels.size != logits.size or len(labels) != rows:
        raise ValueError(
            f"{found} for {problem_type}: expected {list(logits.shape)}, as the logits (num_labels={classes})"
        )
    labels = labels.reshape(logits.shape)
    if problem_type == "regression":
        loss, back = mse_loss(logits, labels)
        return loss, back, logits.size
    if (outside := np.argwhere((labels < 0) | (labels > 1))).size:
        row, column = outside[0]
        raise ValueError(
            f"label {labels[row, column]} in row {row} for multi_label_classification: each of the {classes} labels of "
            "a row is 0 for no, 1 for yes, or between; numbers to be predicted need problem_type='regression'"
        )
    loss, back = binary_cross_entropy(logits, labels)
    return loss, back, logits.size
