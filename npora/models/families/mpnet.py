"""MPNet (Song et al., 2020): RoBERTa without token types, whose scores see distances too, through a learnt bias."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Back, Rng, Rows
from npora.models.families.bert import BertLikeConfig
from npora.models.families.bert_layers import BertLayer
from npora.models.families.distilbert import DistilBertEmbeddings
from npora.models.families.roberta import (
    RobertaForMaskedLM,
    RobertaForMultipleChoice,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)
from npora.models.families.t5_stack import T5Attention
from npora.models.pretrained import Factory
from npora.models.relative import relative_buckets, shared_biases
from npora.models.tokens import Tokens
from npora.nn import Cache, Dropout, LayerNorm, Module, Padding
from npora.nn.functional import everything
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained
from npora.nn.residual import Shared, chain, residual
from npora.nn.view import View

PADDING, BUCKETS = 1, 32  # those that transformers takes, whatever a config says


@dataclass(kw_only=True)
class MPNetConfig(BertLikeConfig):
    """An MPNet's `config.json`, with transformers' defaults.

    mpnet-base's own file says 514 positions, of which 512 hold a token, and eps 1e-5.
    """

    model_type = "mpnet"
    fixed: ClassVar = {"pad_token_id": PADDING, "relative_attention_num_buckets": BUCKETS}

    vocab_size: int = 30527
    relative_attention_num_buckets: int = BUCKETS
    pad_token_id: int | None = PADDING
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    @property
    def first_position(self) -> int:
        return PADDING + 1


class MPNetEmbeddings(DistilBertEmbeddings):
    """DistilBERT's, under the names that this config has for its fields."""

    def __init__(self, config: Any, make: Factory) -> None:
        m = config.hidden_size
        self.word_embeddings = make.embedding(config.vocab_size, m, PADDING)
        self.position_embeddings = make.embedding(config.max_position_embeddings, m)
        self.LayerNorm = LayerNorm(m, config.layer_norm_eps, dtype=make.dtype)
        self.dropout = Dropout(config.hidden_dropout_prob)


class MPNetSelfAttention(T5Attention):
    """T5's with biases in its layers and scores divided by √d: W_o concat_h(softmax(q_h k_hᵀ/√d + bias) v_h)."""

    scale = None

    def __init__(self, config: Any, make: Factory) -> None:
        m = config.hidden_size
        self.q, self.k, self.v, self.o = (make.linear(m, m) for _ in range(4))
        self.heads, self.rule = config.num_attention_heads, everything
        self.dropout = config.attention_probs_dropout_prob

    def idle_parameters(self) -> dict[str, slice]:
        """The key's bias adds the same to all of a query's scores, which softmax does not see."""
        return {f"k.{name}": slice(None) for name, _ in self.k.named_parameters() if name.endswith("bias")}


class MPNetAttention(Module):
    """y = LN(x + dropout(heads(x))).    x [n,m]  →  y [k,m], of the rows that are read"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.attn = MPNetSelfAttention(config, make)
        self.LayerNorm = LayerNorm(config.hidden_size, config.layer_norm_eps, dtype=make.dtype)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Array, view: View, bias: Shared, rng: Rng = None) -> tuple[Array, Pullback]:
        attend = chain(partial(self.attn, view=view, bias=bias, rng=rng), partial(self.dropout, rng=rng))
        return chain(partial(residual, attend, view=view), self.LayerNorm)(x)


class MPNetLayer(BertLayer):
    attention_class = MPNetAttention


class MPNetModel(RobertaModel):
    """The encoder, with its pooler unless `add_pooling_layer` is False. Positions are RobertaModel's, and distances are
    told from places: all layers share the bias that these have."""

    config_class = MPNetConfig
    base_model_prefix = "mpnet"
    default_target_modules = ("q", "v")
    inputs = ("input_ids", "attention_mask", "position_ids")
    embeddings_class = MPNetEmbeddings
    layer_class = MPNetLayer

    def __init__(
        self, config: Any, add_pooling_layer: bool = True, *, rng: Source | int | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        make = Factory(rng, dtype, config.initializer_range)
        super().__init__(config, add_pooling_layer, rng=make.rng, dtype=dtype)
        self.encoder.relative_attention_bias = make.embedding(BUCKETS, config.num_attention_heads)

    def check_padding(self, padding: Padding, length: int) -> None:
        padding.refuse_gaps("MPNet sees distances")

    def embed(self, tokens: Tokens, rng: Rng) -> tuple[Array, Back]:
        return self.embeddings(tokens.words, self.positions(tokens), rng)

    def rows(self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None) -> Rows:
        table, layers = self.encoder.relative_attention_bias, self.encoder.layer
        bias_of, back_biases = shared_biases(
            table, partial(relative_buckets, bidirectional=True), tokens.packing, read, len(layers), cache
        )
        x, back_embeddings = self.embed(tokens, rng)  # [n,m]

        def below(dx: Array) -> None:
            back_biases()
            back_embeddings(dx)

        return self.through(
            layers, x, below, tokens, below_is_trained=is_trained(self.embeddings, table), read=read, cache=cache,
            rng=rng, own=lambda index: {"bias": bias_of(index)},
        )  # [k,m]  # fmt: skip


class MPNetForSequenceClassification(RobertaForSequenceClassification):
    body_class = MPNetModel


class MPNetForTokenClassification(RobertaForTokenClassification):
    body_class = MPNetModel


class MPNetForMaskedLM(RobertaForMaskedLM):
    body_class = MPNetModel


class MPNetForMultipleChoice(RobertaForMultipleChoice):
    body_class = MPNetModel
    may_lack = ("classifier.", "mpnet.pooler.")


class MPNetForQuestionAnswering(RobertaForQuestionAnswering):
    body_class = MPNetModel
