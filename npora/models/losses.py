"""The losses of the tasks, and rows turned into outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.models.config import PROBLEM_TYPES
from npora.models.outputs import LanguageModelOutput, SequenceClassifierOutput, TokenClassifierOutput
from npora.models.tokens import token_targets
from npora.nn import Module, Padding, binary_cross_entropy, cross_entropy, mse_loss, projected_cross_entropy
from npora.nn.module import Array
from npora.nn.targets import IGNORED

Back = Callable[[Array], None]


def language_modeling(
    z: Array,
    back_z: Back,
    decoder: Module,
    padding: Padding,
    rng: np.random.Generator | None = None,
) -> tuple[LanguageModelOutput, Callable[..., None]]:
    """Logits alone: all rows through the projection to the vocabulary; backward(dlogits).    z [n,m]"""
    rows, back_decoder = decoder(z, rng)  # [n,v]
    logits = padding.unpack(rows)  # [b,t,v]
    return LanguageModelOutput(None, 0, lambda: logits), lambda dlogits: back_z(back_decoder(padding.pack(dlogits)))


def language_modeling_loss(
    z: Array,
    back_z: Back,
    decoder: Module,
    targets: Array,
    logits: Callable[[], Array],
    rng: np.random.Generator | None = None,
) -> tuple[LanguageModelOutput, Callable[..., None]]:
    """The loss of the rows that have a target; backward(dℓ=1).    z [k,m]  targets int [k]

    logits : gives those of all rows, when somebody asks for them
    """
    loss, back_loss, number = projected_cross_entropy(z, targets, decoder, rng=rng)
    return LanguageModelOutput(loss, number, logits), lambda dloss=1.0: back_z(back_loss(dloss))


def loss_beside_logits(
    z: Array,
    back_z: Back,
    decoder: Module,
    padding: Padding,
    targets: Array,
    rng: np.random.Generator | None = None,
) -> tuple[LanguageModelOutput, Callable[..., None]]:
    """The loss, and the logits of all rows that it saw; backward(dℓ=1).    z [n,m]  targets int [n]"""
    rows, back_decoder = decoder(z, rng)  # [n,v]
    loss, back_loss = cross_entropy(rows, targets)
    logits = padding.unpack(rows)  # [b,t,v]
    number = int((targets != IGNORED).sum())
    return LanguageModelOutput(loss, number, lambda: logits), lambda dloss=1.0: back_z(back_decoder(back_loss(dloss)))


def sequence_classification(
    logits: Array, back_logits: Back, labels: npt.ArrayLike | None, problem_type: str | None
) -> tuple[SequenceClassifierOutput, Callable[..., None]]:
    """With labels, the loss, and backward(dℓ=1); without, backward(dlogits [b,v])."""
    if labels is None:
        return SequenceClassifierOutput(None, logits), back_logits
    loss, back_loss, number = classification_loss(logits, np.asarray(labels), problem_type)
    return SequenceClassifierOutput(loss, logits, number), lambda dloss=1.0: back_logits(back_loss(dloss))


def token_classification(
    rows: Array, back_rows: Back, padding: Padding, labels: npt.ArrayLike | None
) -> tuple[TokenClassifierOutput, Callable[..., None]]:
    """A class for each row.    rows [n,v], their logits  labels int [b,t]

    With labels, the loss, and backward(dℓ=1); without, backward(dlogits [b,t,v]).
    """
    logits = padding.unpack(rows)  # [b,t,v]
    if labels is None:
        return TokenClassifierOutput(None, logits), lambda dlogits: back_rows(padding.pack(dlogits))
    targets = token_targets(labels, padding)
    loss, back_loss = cross_entropy(rows, targets)
    number = int((targets != IGNORED).sum())
    return TokenClassifierOutput(loss, logits, number), lambda dloss=1.0: back_rows(back_loss(dloss))


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
        return loss, back, int((labels != IGNORED).sum())
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
