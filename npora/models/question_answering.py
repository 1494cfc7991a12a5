"""Question answering: where in a text the answer stands (Devlin et al., 2018, §4.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Rng
from npora.models.outputs import Output
from npora.models.pretrained import Factory
from npora.models.tasks import Headed
from npora.models.tokens import Tokens
from npora.nn import Module, Padding, cross_entropy
from npora.nn.module import Array
from npora.nn.targets import IGNORED


@dataclass
class QuestionAnsweringModelOutput(Output):
    """loss, or None without labels; start_logits and end_logits [b,t], the lowest there are where padding was;
    num_items, how many ends of answers the loss is the mean over."""

    loss: Any
    start_logits: Array
    end_logits: Array
    num_items: int = 0

    @property
    def logits(self) -> Array:
        """[b,t,2]: both."""
        return np.stack((self.start_logits, self.end_logits), axis=-1)


class ForQuestionAnswering(Headed):
    """Two scores for each token: to be the answer's first, and to be its last.

    forward(input_ids [b,t], attention_mask [b,t], …, start_positions and end_positions int [b], or both as
    labels int [b,2]) returns loss, start_logits and end_logits [b,t]. A position counts the columns of the batch; one
    at or beyond t, as of an answer that was cut off, is not learnt, nor is −100. With positions, backward(dloss=1);
    without, backward(dlogits [b,t,2]).

    A text's own tokens are its classes: padding takes no share of the softmax, as it does in transformers.
    """

    options: ClassVar[tuple[str, ...]] = ("start_positions", "end_positions")
    label_names: ClassVar[tuple[str, ...]] = options
    task_name, head_name = "QuestionAnswering", "qa_outputs"

    def num_logits(self, config: Any) -> int:
        return 2

    def add_head(self, config: Any, make: Factory) -> None:
        self.qa_outputs: Module = make.linear(config.hidden_size, self.num_logits(config))

    def idle_parameters(self) -> dict[str, slice]:
        """What adds one number to the scores of all tokens changes no softmax over them."""
        return {f"{self.head_name}.bias": slice(None)}

    def task(
        self,
        tokens: Tokens,
        labels: npt.ArrayLike | None,
        rng: Rng = None,
        start_positions: npt.ArrayLike | None = None,
        end_positions: npt.ArrayLike | None = None,
    ) -> tuple[QuestionAnsweringModelOutput, Callable[..., None]]:
        spans = _spans(labels, start_positions, end_positions)
        return question_answering(*self.scores(tokens, rng), tokens.of_the_batch, spans)


def question_answering(
    z: Array, back_z: Callable[[Array], None], padding: Padding, spans: Array | None
) -> tuple[QuestionAnsweringModelOutput, Callable[..., None]]:
    """ℓ = ½ (ℓ_start + ℓ_end), each the cross-entropy of a text's tokens as classes.

    z [n,2]  spans int [b,2], or None

    Where ends are left out, ℓ is the mean over all those that are counted, so that batches add up however they are cut;
    transformers takes the two means' mean.

    Raises
    ------
    ValueError: spans of another shape, below 0, or at a column of padding.
    """
    real = padding.mask  # [b,t]
    logits = padding.unpack(z)  # [b,t,2]
    logits[~real] = np.finfo(z.dtype).min / 2  # no share of the softmax, and no overflow in a difference
    start, end = logits[..., 0], logits[..., 1]  # [b,t]
    if spans is None:
        return QuestionAnsweringModelOutput(None, start, end), lambda dlogits: back_z(padding.pack(dlogits))
    targets = _targets(spans, real)  # [b,2]
    loss, back_loss = cross_entropy(np.concatenate((start, end)), targets.T.reshape(-1))  # [2b,t]

    def backward(dloss: Any = 1.0) -> None:
        dstart, dend = np.split(back_loss(dloss), 2)  # [b,t]
        back_z(padding.pack(np.stack((dstart, dend), axis=-1)))  # [n,2]

    return QuestionAnsweringModelOutput(loss, start, end, int((targets != IGNORED).sum())), backward


def _spans(labels: npt.ArrayLike | None, start: npt.ArrayLike | None, end: npt.ArrayLike | None) -> Array | None:
    """int [b,2], as they are given: together, or one beside the other."""
    if (start is None) != (end is None):
        raise ValueError("start_positions and end_positions are given together, or neither is")
    if start is None or end is None:
        return None if labels is None else np.asarray(labels)
    if labels is not None:
        raise ValueError("labels hold start_positions and end_positions: give those or these")
    return np.stack((np.asarray(start).reshape(-1), np.asarray(end).reshape(-1)), axis=-1)  # [b,2]


def _targets(spans: Array, real: Array) -> Array:
    """int [b,2], −100 where nothing is to be learnt."""
    if spans.shape != (len(real), 2) or spans.dtype.kind not in "iu":
        raise ValueError(
            f"an answer is its first and its last token, whole numbers [{len(real)},2]; got {spans.dtype} of shape "
            f"{spans.shape}"
        )
    inside = (spans != IGNORED) & (spans < real.shape[1])
    columns = np.where(inside, spans, 0)
    wrong = inside & ((columns < 0) | ~np.take_along_axis(real, np.maximum(columns, 0), axis=1))
    if wrong.any():
        row, which = np.argwhere(wrong)[0]
        raise ValueError(
            f"the answer's {'last' if which else 'first'} token is {spans[row, which]} in row {row}: that is no token "
            "of this text; an answer that is not there is −100"
        )
    return np.where(inside, spans, IGNORED)
