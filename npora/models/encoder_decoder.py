"""Models whose decoder reads, beside its own tokens, what an encoder made of others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Body, Rng, Rows, told
from npora.models.options import refuse_of_calling
from npora.models.outputs import LanguageModelOutput
from npora.models.tasks import Writing
from npora.models.tokens import Memory, Tokens
from npora.nn import Cache
from npora.nn.module import Array
from npora.nn.targets import IGNORED


class EncoderDecoder(Body):
    """A body of two parts. A family writes what each of them makes of its tokens; `rows` is then the decoder's."""

    inputs: ClassVar[tuple[str, ...]] = (
        "input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask",
    )  # fmt: skip

    def encoded(self, source: Tokens, rng: Rng = None) -> tuple[Array, Callable[[Array], Any]]:
        """The encoder's rows [s,m]."""
        raise NotImplementedError(f"{type(self).__name__} has no encoder")

    def decoded(
        self, tokens: Tokens, memory: Memory, rng: Rng, read: Array | None, cache: Cache | None
    ) -> tuple[Array, Callable[[Array], Array | None]]:
        """The decoder's rows, as `rows` says; backward returns the memory's gradient [s,m], or None where nobody reads
        it."""
        raise NotImplementedError(f"{type(self).__name__} has no decoder")

    def memory(self, source: Tokens | Memory | None, rng: Rng = None) -> tuple[Memory, Callable[[Array], Any]]:
        """What the decoder reads: what the encoder makes of the source, or the source where it is that already."""
        if isinstance(source, Memory):
            return source, lambda dmemory: None
        if source is None:
            raise ValueError(f"{type(self).__name__} reads tokens that have a source: give them one")
        h, backward = self.encoded(source, rng)
        if source.hidden is not None:
            source.hidden[-1] = h  # behind the last norm
        return Memory(h, source.packing), backward

    def rows(self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None) -> Rows:
        memory, back_memory = self.memory(tokens.source, rng)
        h, back_decoder = self.decoded(tokens, memory, rng, read, cache)

        def backward(dh: Array) -> None:
            dmemory = back_decoder(dh)
            if dmemory is not None:
                back_memory(dmemory)

        return h, backward

    def forward(  # type: ignore[override]  # it takes other inputs
        self,
        input_ids: npt.ArrayLike | None = None,
        attention_mask: npt.ArrayLike | None = None,
        *,
        inputs_embeds: npt.ArrayLike | None = None,
        decoder_input_ids: npt.ArrayLike,
        decoder_attention_mask: npt.ArrayLike | None = None,
        rng: Rng = None,
        output_hidden_states: bool = False,
        **others: Any,
    ) -> tuple[Any, Callable[..., Any]]:
        """last_hidden_state [b,t,m] of the decoder, zeros at the padding; backward takes its gradient."""
        refuse_of_calling(type(self).__name__, others, self.inputs)
        source = self.tokens(
            input_ids, attention_mask, inputs_embeds=inputs_embeds, output_hidden_states=output_hidden_states
        )
        tokens = self.tokens(decoder_input_ids, decoder_attention_mask, source=source)
        return told(*self.of_tokens(tokens, rng), tokens)


class ForConditionalGeneration(Writing):
    """Text for text.

    forward(input_ids [b,s], attention_mask [b,s], labels [b,t]) returns loss and logits [b,t,v]. Labels are what the
    decoder is to write, −100 where nothing is to be learnt; its input is their shift to the right, behind
    `config.decoder_start_token_id`, with the pad token for −100. What stands behind a sequence's last label is padding.
    Instead decoder_input_ids [b,t] may be given, and decoder_attention_mask [b,t], which hides what no label is read
    for. With labels, backward(dloss=1) adds the gradient of every trainable parameter; without, backward(dlogits) does.
    """

    task_name = "Seq2SeqLM"
    is_encoder_decoder: ClassVar[bool] = True

    def forward(  # type: ignore[override]  # it takes other inputs
        self,
        input_ids: npt.ArrayLike | None = None,
        attention_mask: npt.ArrayLike | None = None,
        *,
        inputs_embeds: npt.ArrayLike | None = None,
        decoder_input_ids: npt.ArrayLike | None = None,
        decoder_attention_mask: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
        all_logits: bool = False,
        output_hidden_states: bool = False,
        **others: Any,
    ) -> tuple[LanguageModelOutput, Callable[..., Any]]:
        refuse_of_calling(type(self).__name__, others, self.inputs)
        if decoder_input_ids is None:
            if labels is None:
                name = type(self).__name__
                raise ValueError(f"{name} needs labels or decoder_input_ids: what its decoder is to read")
            decoder_input_ids = self.shift_right(labels)
            if decoder_attention_mask is None:
                decoder_attention_mask = up_to_the_last(np.asarray(labels) != IGNORED)
        source = self.body.tokens(
            input_ids, attention_mask, inputs_embeds=inputs_embeds, output_hidden_states=output_hidden_states
        )
        tokens = self.body.tokens(decoder_input_ids, decoder_attention_mask, source=source)
        return told(*self.task(tokens, labels, rng, all_logits), tokens)

    def shift_right(self, labels: npt.ArrayLike) -> Array:
        """The decoder's input [b,t] for these labels: each token but the last, behind the start token."""
        return shifted_right(labels, self.config)

    def encode(self, input_ids: npt.ArrayLike, attention_mask: npt.ArrayLike | None = None) -> Memory:
        """What the decoder reads: the encoder's output for a padded batch [b,s]."""
        memory: Memory = self.body.memory(self.body.tokens(input_ids, attention_mask))[0]
        return memory


def shifted_right(labels: npt.ArrayLike, config: Any) -> Array:
    """int [b,t], a decoder's input for these labels: each token but the last, behind the start token, with the pad
    token where there is no label. Raises ValueError where the config lacks one of the two."""
    labels = np.asarray(labels)
    start, pad = config.decoder_start_token_id, config.pad_token_id
    if start is None or pad is None:
        raise ValueError("to make the decoder's input of labels, config needs decoder_start_token_id, pad_token_id")
    shifted = np.full_like(labels, start)
    shifted[:, 1:] = labels[:, :-1]
    return np.where(shifted == IGNORED, pad, shifted)


def up_to_the_last(marks: Array) -> Array:
    """bool [b,t], True up to each row's last mark: a decoder's rows behind it change nothing before it."""
    return np.asarray(marks[:, ::-1].cumsum(axis=1)[:, ::-1] > 0)
