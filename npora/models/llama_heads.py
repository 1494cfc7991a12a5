"""Llama's heads: the next token, and a class for a sequence."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from npora.models.generate.generation import GenerationMixin
from npora.models.heads import language_modeling, sequence_classification
from npora.models.llama import BUFFERS, TARGETS, LlamaConfig, LlamaModel, Rng
from npora.models.outputs import LanguageModelOutput, SequenceClassifierOutput
from npora.models.pretrained import Factory, PretrainedModel
from npora.models.tokens import last_token_rows, next_token_targets, pack_tokens, packed_positions
from npora.nn import Cache, Module, Packing, init
from npora.nn.init import Source
from npora.nn.module import Array


class LlamaForCausalLM(GenerationMixin, PretrainedModel):
    """Llama with a projection to the vocabulary: its token embedding where `config.tie_word_embeddings`, else its own.

    forward(input_ids [b,t], attention_mask [b,t], labels [b,t]) returns loss and logits [b,t,v]: the logits of a token
    are for the one after it, and labels are the tokens themselves, −100 where none is to be learnt. With labels,
    backward(dloss=1) adds the gradient of every trainable parameter; without them, backward(dlogits) does.
    """

    config_class = LlamaConfig
    base_model_prefix = "model"
    default_target_modules = TARGETS
    output_embeddings = "lm_head"
    ignored = BUFFERS

    def __init__(self, config: LlamaConfig, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        rng = init.default_rng(rng)
        self.config = config
        self.model = LlamaModel(config, rng=rng, dtype=dtype)
        d, v, tied = config.hidden_size, config.vocab_size, config.tie_word_embeddings
        make = Factory(init.Unset() if tied else rng, dtype, config.initializer_range)
        self.lm_head: Module = make.linear(d, v, bias=False)
        if tied:
            self.lm_head.weight = self.model.embed_tokens.weight  # one Parameter, which sums both gradients

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        position_ids: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[LanguageModelOutput, Callable[..., None]]:
        ids, padding = pack_tokens(input_ids, attention_mask)
        targets = None if labels is None else next_token_targets(labels, padding)
        h, back_rows = self.model.rows(ids, padding.packing, packed_positions(position_ids, padding), rng)
        h, back_norm = self.model.norm(h)
        return language_modeling(h, lambda dh: back_rows(back_norm(dh)), self.lm_head, padding, targets, rng)

    def next_logits(self, ids: Array, packing: Packing, cache: Cache) -> Array:
        """Logits [b,v] of the token after each sequence, whose rows are those in the cache and then `ids` [n]."""
        h, _ = self.model.rows(ids, packing, cache.positions(packing), cache=cache)
        h, _ = self.model.norm(h[packing.last_rows()])  # [n,m] → [b,m]
        logits: Array = self.lm_head(h)[0]
        return logits


class LlamaForSequenceClassification(PretrainedModel):
    """Llama with a linear head on each sequence's last token: the last that the attention mask shows, or without
    one the rightmost that is not `config.pad_token_id`.

    forward(input_ids [b,t], attention_mask [b,t], labels) returns loss and logits [b,v]. The loss is what
    `config.problem_type` says. With labels, backward(dloss=1); without, backward(dlogits).
    """

    config_class = LlamaConfig
    base_model_prefix = "model"
    default_target_modules = TARGETS
    may_lack = ("score.",)
    ignored = BUFFERS

    def __init__(self, config: LlamaConfig, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        rng = init.default_rng(rng)
        self.config = config
        self.model = LlamaModel(config, rng=rng, dtype=dtype)
        make = Factory(rng, dtype, config.initializer_range)
        self.score: Module = make.linear(config.hidden_size, config.num_labels, bias=False)

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        position_ids: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[SequenceClassifierOutput, Callable[..., None]]:
        ids, padding = pack_tokens(input_ids, attention_mask)
        last = last_token_rows(input_ids, padding.packing, self.config.pad_token_id, attention_mask is not None)
        h, back_rows = self.model.rows(ids, padding.packing, packed_positions(position_ids, padding), rng)
        z, back_norm = self.model.norm(h[last])  # [n,m] → [b,m]
        logits, back_score = self.score(z, rng)  # [b,v]

        def back_logits(dlogits: Array) -> None:
            dh = np.zeros_like(h)
            dh[last] = back_norm(back_score(dlogits))  # [b,m] → [n,m]
            back_rows(dh)

        return sequence_classification(logits, back_logits, labels, self.config.problem_type)
