"""What stands on top of a model: the losses of the tasks, and rows turned into outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.models.outputs import LanguageModelOutput, SequenceClassifierOutput, TokenClassifierOutput
from npora.models.tokens import token_targets
from npora.nn import Module, Packing, binary_cross_entropy, cross_entropy, mse_loss, projected_cross_entropy
from npora.nn.module import Array

Back = Callable[[Array], None]

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")


def language_modeling(
    h: Array, back_h: Back, head: Module, packing: Packing, targets: Array | None
) -> tuple[LanguageModelOutput, Callable[..., None]]:
    """Rows h [n,d] through the projection to the vocabulary.    targets int [n], −100 where there is none

    With targets, backward(dℓ=1); without, backward(dlogits [b,t,v]).
    """
    if targets is None:
        rows, back_head = head(h)  # [n,v]
        logits = packing.unpack(rows)  # [b,t,v]

        def back_logits(dlogits: Array) -> None:
            back_h(back_head(packing.pack(dlogits)))

        return LanguageModelOutput(None, 0, lambda: logits), back_logits
    loss, back_loss, number = projected_cross_entropy(h, targets, head)

    def backward(dloss: Any = 1.0) -> None:
        back_h(back_loss(dloss))

    return LanguageModelOutput(loss, number, lambda: packing.unpack(head(h)[0])), backward


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
    h: Array, back_h: Back, head: Module, packing: Packing, labels: npt.ArrayLike | None
) -> tuple[TokenClassifierOutput, Callable[..., None]]:
    """A class for each row.    h [n,d]  labels int [b,t]

    With labels, backward(dℓ=1); without, backward(dlogits [b,t,v]).
    """
    rows, back_head = head(h)  # [n,v]
    logits = packing.unpack(rows)  # [b,t,v]
    if labels is None:

        def back_logits(dlogits: Array) -> None:
            back_h(back_head(packing.pack(dlogits)))

        return TokenClassifierOutput(None, logits), back_logits
    targets = token_targets(labels, packing)
    loss, back_loss = cross_entropy(rows, targets)

    def backward(dloss: Any = 1.0) -> None:
        back_h(back_head(back_loss(dloss)))

    return TokenClassifierOutput(loss, logits, int((targets != -100).sum())), backward


def classification_loss(
    logits: Array, labels: Array, problem_type: str | None = None
) -> tuple[Any, Callable[..., Array], int]:
    """The loss that transformers' `problem_type` means, and over how many numbers it is a mean.    logits [b,v]

    regression: squared error, labels [b] or [b,v]; single_label_classification: cross-entropy, labels int [b];
    multi_label_classification: binary cross-entropy, labels [b,v] of 0 and 1. Without a type: regression where v = 1,
    a single label where labels are whole numbers, else many.
    """
    if problem_type is None:
        whole = np.issubdtype(labels.dtype, np.integer)
        problem_type = PROBLEM_TYPES[0] if logits.shape[1] == 1 else PROBLEM_TYPES[1] if whole else PROBLEM_TYPES[2]
    if problem_type == "regression":
        loss, back = mse_loss(logits, labels.reshape(logits.shape))
        return loss, back, logits.size
    if problem_type == "multi_label_classification":
        loss, back = binary_cross_entropy(logits, labels)
        return loss, back, logits.size
    if problem_type != "single_label_classification":
        raise ValueError(f"problem_type must be one of {', '.join(PROBLEM_TYPES)}; got {problem_type!r}")
    loss, back = cross_entropy(logits, labels)
    return loss, back, int((labels != -100).sum())
