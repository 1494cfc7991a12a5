"""MPNet (Song et al., 2020): RoBERTa without token types, whose scores see distances too, through a learnt bias."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Back, Rng
from npora.models.config import PretrainedConfig
from npora.models.families.bert import BertEmbeddings
from npora.models.families.bert_layers import BertLayer
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
from npora.models.tokens import Tokens, embedded
from npora.nn import Cache, Dropout, LayerNorm, Module, Padding
from npora.nn.functional import everything
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained
from npora.nn.residual import chain, residual
from npora.nn.shared import Shared
from npora.nn.view import View

PADDING, BUCKETS = 1, 32  # those that transformers takes, whatever a config says


@dataclass(kw_only=True)
class MPNetConfig(PretrainedConfig):
    """An MPNet's `config.json`, with transformers' defaults.

    mpnet-base's own file says 514 positions, of which 512 hold a token, and eps 1e-5.
    """

    model_type = "mpnet"
    fixed: ClassVar = {"pad_token_id": PADDING, "relative_attention_num_buckets": BUCKETS}
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
             "max_position_embeddings")  # fmt: skip
    multiples: ClassVar = {"hidden_size": "num_attention_heads"}

    vocab_size: int = 30527
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    layer_norm_eps: float = 1e-12
    relative_attention_num_buckets: int = BUCKETS
    pad_token_id: int | None = PADDING
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = True

    @property
    def first_position(self) -> int:
        return PADDING + 1

    @property
    def head_dropout(self) -> float:
        return self.hidden_dropout_prob


class MPNetEmbeddings(BertEmbeddings):
    """h = dropout(LN(word + position)).    positions int [n]  →  h [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        m = config.hidden_size
        self.word_embeddings = make.embedding(config.vocab_size, m, PADDING)
        self.position_embeddings = make.embedding(config.max_position_embeddings, m)
        self.LayerNorm = LayerNorm(m, config.layer_norm_eps, dtype=make.dtype)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(  # type: ignore[override]  # without token types
        self, words: Array | Shared, positions: Array, rng: Rng = None
    ) -> tuple[Array, Back]:
        word, back_word = embedded(words, self.word_embeddings)  # [n,m]
        position, back_position = self.position_embeddings(positions)  # [n,m]
        h, back_norm = chain(self.LayerNorm, partial(self.dropout, rng=rng))(word + position)

        def backward(dh: Array) -> None:
            dsum = back_norm(dh)
            back_word(dsum)
            back_position(dsum)

        return h, backward


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

    def rows(
        self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None
    ) -> tuple[Array, Back]:
        table, layers = self.encoder.relative_attention_bias, self.encoder.layer
        bias_of, back_biases = shared_biases(
            table, partial(relative_buckets, bidirectional=True), tokens.packing, read, len(layers), cache
        )
        x, back_embeddings = self.embed(tokens, rng)  # [n,m]
        h, back_layers = self.through(
            layers, x, tokens, below_is_trained=is_trained(self.embeddings, table), read=read, cache=cache, rng=rng,
            own=lambda index: {"bias": bias_of(index)},
        )  # [k,m]  # fmt: skip

        def backward(dh: Array) -> None:
            dx = back_layers(dh)
            if dx is not None:
                back_biases()
                back_embeddings(dx)

        return h, backward


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


TASKS = {
    "MaskedLM": MPNetForMaskedLM,
    "MultipleChoice": MPNetForMultipleChoice,
    "QuestionAnswering": MPNetForQuestionAnswering,
    "SequenceClassification": MPNetForSequenceClassification,
    "TokenClassification": MPNetForTokenClassification,
}
