"""What a family writes: its body, from tokens to the rows that a task reads.

A model's tokens are rows [n,m] without padding; the packing says which of them form which sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from npora.models.options import refuse_of_calling
from npora.models.outputs import BaseModelOutput, Output
from npora.models.pretrained import PretrainedModel
from npora.models.tokens import Tokens
from npora.nn import Cache, Module, Padding, stack
from npora.nn.grad_mode import this_thread
from npora.nn.module import Array
from npora.nn.view import View, pick_rows

Rng = np.random.Generator | None
Back = Callable[[Array], None]
Rows = tuple[Array, Back]  # those of a model's tokens, and their pullback
_Told = TypeVar("_Told", bound=Output)


def told(output: _Told, backward: Callable[..., None], tokens: Tokens) -> tuple[_Told, Callable[..., Any]]:
    """The output with the hidden states that were asked for, and a backward that returns the gradient of inputs_embeds
    [b,t,m], of choices [b,c,t,m], zeros at the padding, where rows were given as these."""
    source = tokens.source if isinstance(tokens.source, Tokens) else tokens  # an encoder's
    given = source.given

    def back_to_the_rows(*gradients: Any, **named: Any) -> Array:
        backward(*gradients, **named)
        assert given is not None
        dgiven = source.of_the_batch.unpack(given.gradient())
        return dgiven if tokens.choices is None else dgiven.reshape(-1, tokens.choices, *dgiven.shape[1:])

    return output.with_hidden_states(tokens), backward if given is None else back_to_the_rows


class Body(PretrainedModel):
    """A model without a head. A family's file is read top down: config, layers, body, and the names of its tasks.

    A family writes `rows`, and states beside what PretrainedModel asks for:

    inputs : the arrays, by name, that its models take beside labels
    input_embeddings : the path of its token embedding
    """

    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "position_ids")
    input_embeddings: ClassVar[str]

    def rows(self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None) -> Rows:
        """h [n,m] behind the last norm, or [k,m] of the rows `read` alone; backward adds the gradients below.

        read : int [k], ascending. It is for the caller to say by the inputs, not by whether there are gradients:
            dropout draws other numbers for other rows
        cache : the tokens follow those that it holds, and are added to it
        """
        raise NotImplementedError(f"{type(self).__name__} has no rows")

    def forward(
        self,
        input_ids: npt.ArrayLike | None = None,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        *,
        position_ids: npt.ArrayLike | None = None,
        inputs_embeds: npt.ArrayLike | None = None,
        rng: Rng = None,
        output_hidden_states: bool = False,
        **others: Any,
    ) -> tuple[Any, Callable[..., Any]]:
        """last_hidden_state [b,t,m], zeros at the padding; backward takes its gradient."""
        refuse_of_calling(type(self).__name__, others, self.inputs)
        tokens = self.tokens(
            input_ids, attention_mask, token_type_ids=token_type_ids, position_ids=position_ids,
            inputs_embeds=inputs_embeds, output_hidden_states=output_hidden_states,
        )  # fmt: skip
        return told(*self.of_tokens(tokens, rng), tokens)

    def of_tokens(self, tokens: Tokens, rng: Rng = None) -> tuple[Any, Callable[..., None]]:
        """The output for packed tokens, and its pullback."""
        return self.unpacked(tokens, *self.read_rows(tokens, rng), rng)

    def read_rows(self, tokens: Tokens, rng: Rng = None, read: Array | None = None) -> tuple[Array, Back]:
        """`rows`; where the hidden states are asked for, or `every_row`, all of them are computed, and those that are
        read taken then. The last of the hidden states is that behind the last norm."""
        if tokens.hidden is None and not this_thread.every_row:
            return self.rows(tokens, rng, read)
        h, back_rows = self.rows(tokens, rng)  # [n,m]
        if tokens.hidden is not None:
            tokens.hidden[-1] = h
        picked, back_pick = pick_rows(h, read)  # [k,m]
        return picked, lambda dh: back_rows(back_pick(dh))

    def unpacked(self, tokens: Tokens, h: Array, back_rows: Back, rng: Rng = None) -> tuple[Any, Callable[..., None]]:
        """What forward gives of the rows h [n,m], and its pullback."""
        padding = tokens.of_the_batch
        return BaseModelOutput(padding.unpack(h)), lambda dhidden: back_rows(padding.pack(dhidden))

    def tokens(
        self,
        input_ids: npt.ArrayLike | None,
        attention_mask: npt.ArrayLike | None = None,
        *,
        source: Tokens | None = None,
        inputs_embeds: npt.ArrayLike | None = None,
        output_hidden_states: bool = False,
        **others: npt.ArrayLike | None,
    ) -> Tokens:
        """The batch's tokens, packed; source : those that an encoder reads, beside a decoder's, which are asked for
        hidden states where these are. Raises TypeError for an input that this family has not."""
        foreign = [name for name, value in others.items() if value is not None and name not in self.inputs]
        if foreign:
            raise TypeError(
                f"{type(self).__name__} has no {', '.join(foreign)}: it takes {', '.join(self.inputs)}; leave "
                f"{'it' if len(foreign) == 1 else 'them'} out"
            )
        tokens = Tokens.of(input_ids, attention_mask, **others, source=source, inputs_embeds=inputs_embeds)
        if output_hidden_states or (source is not None and source.hidden is not None):
            tokens = replace(tokens, hidden=[])
        self.check_padding(tokens.of_the_batch, tokens.of_the_batch.mask.shape[1])
        return tokens

    def check_padding(self, padding: Padding, length: int) -> None:
        """A place for a family to raise ValueError for padding among tokens, where it sees how far apart these are. The
        batch has, or will grow to, `length` columns."""

    def embedding(self) -> Module:
        """The layer that makes rows of token ids."""
        return self.get_submodule(self.input_embeddings)

    def through(
        self,
        layers: Sequence[Module],
        x: Any,
        below: Callable[[Any], Any],
        tokens: Tokens,
        *args: Any,
        below_is_trained: bool,
        read: Array | None = None,
        cache: Cache | None = None,
        own: Callable[[int], dict[str, Any]] = lambda index: {},
        rng: Rng = None,
    ) -> tuple[Any, Callable[[Any], Any]]:
        """x through the layers, each called as layer(x, *args, view=…, rng=…, **own(its number)), and with past=… where
        there is a cache. All compute all rows, but the last, whose view is of the rows `read`.

        below : the pullback of what made x, with which backward ends where any of that is trained; else it gives None
        """
        below_is_trained = below_is_trained or tokens.given is not None  # who gave the rows wants their gradient
        every, asked = View(tokens.packing), View(tokens.packing, read)
        watch = None if tokens.hidden is None else tokens.hidden.append
        if watch is not None:
            watch(x)

        def keywords(index: int) -> dict[str, Any]:
            past = {} if cache is None else {"past": cache[index]}
            return {"view": asked if index == len(layers) - 1 else every, **past, **own(index)}

        if not layers:
            h, back_pick = pick_rows(x, read)
            return h, lambda dh: below(back_pick(dh))
        return stack(
            layers, x, *args, rng=rng, below_is_trained=below_is_trained, below=below,
            recompute=self.gradient_checkpointing, own_keywords=keywords, watch=watch,
        )  # fmt: skip
