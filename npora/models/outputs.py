"""What models return, under transformers' names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from npora.nn.module import Array
from npora.nn.readable import Readable, brief

_Output = TypeVar("_Output", bound="Output")


class Output(Readable):
    """What any model returns. With output_hidden_states=True it has the rows before the first layer and behind each,
    [b,t,m], zeros where padding was, the last of them behind the last norm: `hidden_states`, or of an encoder-decoder
    `encoder_hidden_states` and `decoder_hidden_states`. They have no gradient of their own."""

    hidden_states: tuple[Array, ...] | None = None
    encoder_hidden_states: tuple[Array, ...] | None = None
    decoder_hidden_states: tuple[Array, ...] | None = None

    def with_hidden_states(self: _Output, tokens: Any) -> _Output:
        """With those of a body's `Tokens`, where they were asked for."""
        if tokens.hidden is not None and tokens.source is not None:
            self.encoder_hidden_states = tokens.source.hidden_states()
            self.decoder_hidden_states = tokens.hidden_states()
        elif tokens.hidden is not None:
            self.hidden_states = tokens.hidden_states()
        return self


@dataclass
class BaseModelOutput(Output):
    """last_hidden_state [b,t,m], zeros where padding was."""

    last_hidden_state: Array


@dataclass
class BaseModelOutputWithPooling(BaseModelOutput):
    """pooler_output [b,m] beside last_hidden_state [b,t,m]."""

    pooler_output: Array


@dataclass
class Classified(Output):
    """loss, a scalar, or None without labels; logits; num_items, how many labels the loss is the mean over."""

    loss: Any
    logits: Array
    num_items: int = 0


class SequenceClassifierOutput(Classified):
    """logits [b,v]."""


class TokenClassifierOutput(Classified):
    """logits [b,t,v], zeros where padding was."""


class MultipleChoiceModelOutput(Classified):
    """logits [b,c], a score for each choice."""


class LanguageModelOutput(Output):
    """loss, a scalar, or None without labels; num_items, how many labels it is the mean over; logits [b,t,v].

    Beside a loss the logits are computed when they are first asked for: over a large vocabulary they are most of the
    memory of a training step, and training does not read them.
    """

    def __init__(self, loss: Any, num_items: int, logits: Callable[[], Array]) -> None:
        self.loss, self.num_items, self._compute = loss, num_items, logits

    @cached_property
    def logits(self) -> Array:
        return self._compute()

    def said(self) -> Iterator[str]:
        yield from (f"loss={brief(self.loss)}", f"num_items={self.num_items}")
        yield f"logits={brief(self.logits) if 'logits' in vars(self) else 'computed when asked for'}"
