"""Multiple choice: which of an example's texts is right, as the ending of a story or the answer to a question (Zellers
et al., 2018, SWAG)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Rng
from npora.models.outputs import MultipleChoiceModelOutput
from npora.models.tasks import ForSequenceClassification
from npora.models.tokens import Tokens
from npora.nn import cross_entropy
from npora.nn.module import Array
from npora.nn.targets import IGNORED


class ForMultipleChoice(ForSequenceClassification):
    """A score for each choice of an example: the head of a classifier with one class.

    forward(input_ids [b,c,t], attention_mask [b,c,t], …, labels int [b]) returns loss and logits [b,c]. The choices
    are sequences of their own, which see each other in the loss alone; labels are the numbers of the right ones, −100
    where there is none. With labels, backward(dloss=1); without, backward(dlogits [b,c]). The gradient of
    inputs_embeds is [b,c,t,m], as these are.
    """

    task_name = "MultipleChoice"
    of_choices: ClassVar[bool] = True  # an example's inputs are a list for each choice

    def num_logits(self, config: Any) -> int:
        return 1

    def idle_parameters(self) -> dict[str, slice]:
        """What adds one number to the scores of all choices changes no softmax over them."""
        return {"classifier.bias": slice(None)}

    def pack(
        self, input_ids: npt.ArrayLike | None, attention_mask: npt.ArrayLike | None, *,
        inputs_embeds: npt.ArrayLike | None = None, output_hidden_states: bool = False, **others: Any,
    ) -> Tokens:  # fmt: skip
        """The tokens of every choice. Raises ValueError where there is no axis of choices."""
        for name, given, axes in (("input_ids", input_ids, 3), ("inputs_embeds", inputs_embeds, 4)):
            if given is not None and np.ndim(given) != axes:
                wanted = "[batch, choices, length]" if axes == 3 else "[batch, choices, length, width]"
                raise ValueError(f"{name} must be {wanted}; got shape {np.shape(given)}")
            if given is not None and np.shape(given)[1] == 0:
                raise ValueError(f"{name} must have a choice at least; got shape {np.shape(given)}")
        tokens = super().pack(
            _side_by_side(input_ids), _side_by_side(attention_mask), inputs_embeds=_side_by_side(inputs_embeds, 2),
            output_hidden_states=output_hidden_states, **{name: _side_by_side(value) for name, value in others.items()},
        )  # fmt: skip
        given = input_ids if inputs_embeds is None else inputs_embeds
        return replace(tokens, choices=np.asarray(given).shape[1])

    def task(self, tokens: Tokens, labels: npt.ArrayLike | None, rng: Rng = None) -> tuple[Any, Callable[..., None]]:
        assert tokens.choices is not None, "the tokens of choices are packed as such"
        return multiple_choice(*self.scores(tokens, rng), tokens.choices, labels)


def multiple_choice(
    z: Array, back_z: Callable[[Array], None], choices: int, labels: npt.ArrayLike | None
) -> tuple[MultipleChoiceModelOutput, Callable[..., None]]:
    """ℓ is the cross-entropy of an example's choices as its classes.    z [b·c,1]  labels int [b], or None

    Raises
    ------
    ValueError: labels of another shape, no whole numbers, or beyond the choices.
    """
    logits = z.reshape(len(z) // choices, choices)  # [b·c,1] → [b,c]
    if labels is None:
        return MultipleChoiceModelOutput(None, logits), lambda dlogits: back_z(dlogits.reshape(z.shape))
    targets = np.asarray(labels)
    if targets.shape != logits.shape[:1] or targets.dtype.kind not in "iu":
        raise ValueError(
            f"a label is the number of an example's right choice, whole numbers [{len(logits)}]; got {targets.dtype} "
            f"of shape {targets.shape}"
        )
    loss, back_loss = cross_entropy(logits, targets)

    def backward(dloss: Any = 1.0) -> None:
        back_z(back_loss(dloss).reshape(z.shape))  # [b,c] → [b·c,1]

    return MultipleChoiceModelOutput(loss, logits, int((targets != IGNORED).sum())), backward


def _side_by_side(values: npt.ArrayLike | None, last: int = 1) -> Array | None:
    """[b,c,…] → [b·c,…], with so many axes behind."""
    if values is None:
        return None
    array = np.asarray(values)
    first = array.ndim - last
    return array.reshape(math.prod(array.shape[:first]), *array.shape[first:])
