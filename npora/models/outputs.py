"""What models return, under transformers' names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from npora.nn.module import Array
from npora.nn.readable import Readable, brief


@dataclass
class BaseModelOutput(Readable):
    """last_hidden_state [b,t,m], zeros where padding was."""

    last_hidden_state: Array


@dataclass
class BaseModelOutputWithPooling(BaseModelOutput):
    """pooler_output [b,m] beside last_hidden_state [b,t,m]."""

    pooler_output: Array


@dataclass
class SequenceClassifierOutput(Readable):
    """loss, a scalar, or None without labels; logits [b,v]; num_items, how many labels the loss is the mean over."""

    loss: Any
    logits: Array
    num_items: int = 0


@dataclass
class TokenClassifierOutput(Readable):
    """loss; logits [b,t,v], zeros where padding was; num_items, how many labels the loss is the mean over."""

    loss: Any
    logits: Array
    num_items: int = 0


class LanguageModelOutput(Readable):
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
