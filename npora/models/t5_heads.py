"""T5's models: the encoder alone, the pair, the pair that writes text, and the pair that names a class."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.machine.stored import same_values
from npora.models.generate.generation import GenerationMixin
from npora.models.heads import language_modeling, sequence_classification
from npora.models.outputs import BaseModelOutput, LanguageModelOutput, SequenceClassifierOutput
from npora.models.pretrained import Factory, PretrainedModel
from npora.models.t5 import Rng, T5Stack
from npora.models.t5_config import T5Config
from npora.models.tokens import pack_tokens, token_targets
from npora.nn import Cache, Dropout, Module, Packing, Padding, init
from npora.nn.functional import tanh
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained
from npora.nn.readable import Readable

UNUSED = ("EncDecAttention.relative_attention_bias.weight",)  # the first T5s held one


@dataclass
class Memory(Readable):
    """What the encoder made of its input: rows [s,m], and which of them form which sequence."""

    rows: Array
    packing: Packing

    def select(self, sequences: Array) -> None:
        """Go on with these sequences, in this order; one may stand several times (beam search)."""
        self.rows = self.rows[self.packing.rows_of(sequences)]
        self.packing = Packing.of_lengths(self.packing.lengths[sequences])


class T5EncoderModel(PretrainedModel):
    """The encoder alone.

    forward(input_ids [b,t], attention_mask [b,t]) returns last_hidden_state [b,t,m], zeros at the padding; backward
    takes its gradient.
    """

    config_class = T5Config
    default_target_modules = ("q", "v")
    ignored = UNUSED

    def __init__(self, config: T5Config, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        make = Factory(rng, dtype, config.initializer_factor)
        self.config = config
        self.shared = make.embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config, make, self.shared.weight, decoder=False)

    @classmethod
    def adjust(cls, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Pass over the decoder of a whole T5."""
        for key in [key for key in tensors if key.startswith(("decoder.", "lm_head."))]:
            del tensors[key]

    def forward(
        self, input_ids: npt.ArrayLike, attention_mask: npt.ArrayLike | None = None, rng: Rng = None
    ) -> tuple[BaseModelOutput, Callable[[Array], None]]:
        ids, padding = _pack_in_one_piece(input_ids, attention_mask)
        h, back_encoder = self.encoder(ids, padding.packing, rng=rng, recompute=self.gradient_checkpointing)

        def backward(dhidden: Array) -> None:
            back_encoder(padding.pack(dhidden))

        return BaseModelOutput(padding.unpack(h)), backward


class T5Model(PretrainedModel):
    """The encoder, and the decoder that reads it, which stand on one token embedding."""

    config_class = T5Config
    default_target_modules = ("q", "v")
    ignored = UNUSED
    is_encoder_decoder = True

    def __init__(self, config: T5Config, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        make = Factory(rng, dtype, config.initializer_factor)
        self.config = config
        self.shared = make.embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config, make, self.shared.weight, decoder=False)
        self.decoder = T5Stack(config, make, self.shared.weight, decoder=True)

    def rows(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None,
        ids: Array,
        packing: Packing,
        rng: Rng = None,
    ) -> tuple[Array, Callable[[Array], None]]:
        """The decoder's rows for its input `ids` [n] beside the encoder's padded batch [b,s].    →  h [n,m]"""
        memory, back_encoder = self._encode(input_ids, attention_mask, rng)
        h, back_decoder = self.decoder(
            ids, packing, memory.rows, memory.packing, rng, recompute=self.gradient_checkpointing,
            dmemory_is_read=is_trained(self.encoder),
        )  # fmt: skip

        def backward(dh: Array) -> None:
            dmemory = back_decoder(dh)
            if dmemory is not None:
                back_encoder(dmemory)

        return h, backward

    def encode(self, input_ids: npt.ArrayLike, attention_mask: npt.ArrayLike | None = None) -> Memory:
        """What the decoder reads: the encoder's output for a padded batch [b,s]."""
        return self._encode(input_ids, attention_mask)[0]

    def _encode(
        self, input_ids: npt.ArrayLike, attention_mask: npt.ArrayLike | None, rng: Rng = None
    ) -> tuple[Memory, Callable[[Array], Any]]:
        ids, padding = _pack_in_one_piece(input_ids, attention_mask)
        h, backward = self.encoder(ids, padding.packing, rng=rng, recompute=self.gradient_checkpointing)
        return Memory(h, padding.packing), backward

    def shift_right(self, labels: npt.ArrayLike) -> Array:
        """The decoder's input [b,t] for these labels: each token but the last, behind the start token."""
        labels = np.asarray(labels)
        start, pad = self.config.decoder_start_token_id, self.config.pad_token_id
        if start is None or pad is None:
            raise ValueError("to make the decoder's input of labels, config needs decoder_start_token_id, pad_token_id")
        shifted = np.full_like(labels, start)
        shifted[:, 1:] = labels[:, :-1]
        return np.where(shifted == -100, pad, shifted)


class T5ForConditionalGeneration(GenerationMixin, T5Model):
    """T5 with a projection to the vocabulary: the token embedding itself (tied), or a matrix of its own.

    forward(input_ids [b,s], attention_mask [b,s], labels [b,t]) returns loss and logits [b,t,v]. Labels are what the
    decoder is to write, −100 where nothing is to be learnt; its input is their shift to the right, behind
    `config.decoder_start_token_id`, with the pad token for −100. What stands behind a sequence's last label is padding.
    Instead decoder_input_ids [b,t] may be given, and decoder_attention_mask [b,t], which hides what no label is read
    for. With labels, backward(dloss=1) adds the gradient of every trainable parameter; without, backward(dlogits) does.
    """

    output_embeddings = "lm_head"

    def __init__(self, config: T5Config, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        rng = init.default_rng(rng)
        super().__init__(config, rng=rng, dtype=dtype)
        source = init.Unset() if config.tie_word_embeddings else rng
        head = Factory(source, dtype, config.initializer_factor).linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            head.weight = self.shared.weight  # one Parameter, which sums the gradients of all its uses
        self.lm_head: Module = head
        self.scale = config.d_model**-0.5 if config.scale_decoder_outputs else 1.0

    @classmethod
    def adjust(cls, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        """The head is tied unless the file holds another one: transformers writes tie_word_embeddings as true for
        either. What older configs meant by it besides, the scale of the decoder's output, is read first."""
        values.setdefault("scale_decoder_outputs", values.get("tie_word_embeddings", True) is not False)
        head, names = tensors.get("lm_head.weight"), ("shared", "encoder.embed_tokens", "decoder.embed_tokens")
        embedding = next((tensors[f"{name}.weight"] for name in names if f"{name}.weight" in tensors), None)
        values["tie_word_embeddings"] = head is None or embedding is None or same_values(head, embedding)

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        decoder_input_ids: npt.ArrayLike | None = None,
        decoder_attention_mask: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[LanguageModelOutput, Callable[..., None]]:
        if decoder_input_ids is None:
            if labels is None:
                raise ValueError("T5 needs labels or decoder_input_ids: what its decoder is to read")
            decoder_input_ids = self.shift_right(labels)
            if decoder_attention_mask is None:
                decoder_attention_mask = _up_to_the_last(np.asarray(labels) != -100)
        ids, padding = _pack_in_one_piece(decoder_input_ids, decoder_attention_mask)
        targets = None if labels is None else token_targets(labels, padding)
        h, back_rows = self.rows(input_ids, attention_mask, ids, padding.packing, rng)
        scale = self.scale
        return language_modeling(h * scale, lambda dh: back_rows(dh * scale), self.lm_head, padding, targets, rng)

    def next_logits(self, ids: Array, packing: Packing, cache: Cache, memory: Memory) -> Array:
        """Logits [b,v] of the token after each sequence, whose rows are those in the cache and then `ids` [n].

        The memory's keys and values are computed by the first call, and kept in `cache["cross", layer]`.
        """
        h, _ = self.decoder(ids, packing, memory.rows, memory.packing, cache=cache)
        logits: Array = self.lm_head(h[packing.last_rows()] * self.scale)[0]  # [n,m] → [b,m] → [b,v]
        return logits


class T5ClassificationHead(Module):
    """W₂ dropout(tanh(W₁ dropout(x) + b₁)) + b₂.    x [b,m]  →  [b,v]"""

    def __init__(self, config: T5Config, make: Factory) -> None:
        self.dense: Module = make.linear(config.d_model, config.d_model)
        self.out_proj: Module = make.linear(config.d_model, config.num_labels)
        self.dropout = Dropout(config.classifier_dropout)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        x, back_first = self.dropout(x, rng)
        z, back_dense = self.dense(x, rng)
        z, back_tanh = tanh(z)
        z, back_second = self.dropout(z, rng)
        y, back_out = self.out_proj(z, rng)
        return y, lambda dy: back_first(back_dense(back_tanh(back_second(back_out(dy)))))


class T5ForSequenceClassification(PretrainedModel):
    """T5 with a head on the decoder's row of each sequence's last end-of-sequence token, where the decoder reads the
    same ids as the encoder, shifted to the right.

    forward(input_ids [b,t], attention_mask [b,t], labels) returns loss and logits [b,v]. The loss is what
    `config.problem_type` says. With labels, backward(dloss=1); without, backward(dlogits). Raises ValueError where a
    sequence has no `config.eos_token_id`, or another number of them than the rest.
    """

    config_class = T5Config
    base_model_prefix = "transformer"
    default_target_modules = ("q", "v")
    may_lack = ("classification_head.",)
    ignored = (*UNUSED, "lm_head.weight")

    def __init__(self, config: T5Config, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        rng = init.default_rng(rng)
        self.config = config
        self.transformer = T5Model(config, rng=rng, dtype=dtype)
        make = Factory(rng, dtype, config.initializer_factor * config.d_model**-0.5)
        self.classification_head: Module = T5ClassificationHead(config, make)

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[SequenceClassifierOutput, Callable[..., None]]:
        if np.ndim(input_ids) != 2:
            raise ValueError(f"input_ids must be [batch, length]; got shape {np.shape(input_ids)}")
        ends = np.isin(np.asarray(input_ids), self.config.eos_token_id)  # [b,t]
        if attention_mask is not None:
            ends &= np.asarray(attention_mask).astype(bool)
        counts = ends.sum(axis=1)
        if not counts.all() or len(set(counts)) > 1:
            raise ValueError(
                "each sequence must hold the same number of end-of-sequence tokens, at least one; found "
                f"{counts.tolist()} of config.eos_token_id {self.config.eos_token_id}"
            )
        ids, padding = pack_tokens(self.transformer.shift_right(input_ids), _up_to_the_last(ends))
        h, back_rows = self.transformer.rows(input_ids, attention_mask, ids, padding.packing, rng)
        last = padding.packing.last_rows()
        logits, back_head = self.classification_head(h[last], rng)  # [n,m] → [b,m] → [b,v]

        def back_logits(dlogits: Array) -> None:
            dh = np.zeros_like(h)
            dh[last] = back_head(dlogits)  # [b,m] → [n,m]
            back_rows(dh)

        return sequence_classification(logits, back_logits, labels, self.config.problem_type)


def _pack_in_one_piece(input_ids: npt.ArrayLike, attention_mask: npt.ArrayLike | None) -> tuple[Array, Padding]:
    ids, padding = pack_tokens(input_ids, attention_mask)
    padding.refuse_gaps("T5 sees distances")
    return ids, padding


def _up_to_the_last(marks: Array) -> Array:
    """bool [b,t], True up to each row's last mark: a decoder's rows behind it change nothing before it."""
    return np.asarray(marks[:, ::-1].cumsum(axis=1)[:, ::-1] > 0)
