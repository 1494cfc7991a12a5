"""BERT (Devlin et al., 2018), with Hugging Face's parameter names. The layers are in `bert_layers.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Back, Body, Rng, Rows
from npora.models.config import PretrainedConfig
from npora.models.families.bert_layers import BertLayer
from npora.models.multiple_choice import ForMultipleChoice
from npora.models.pooled import PooledBody
from npora.models.pretrained import Factory
from npora.models.question_answering import ForQuestionAnswering
from npora.models.tasks import ForMaskedLM, ForSequenceClassification, ScoredTokens, masked_projection
from npora.models.tokens import Tokens, check_positions, summed
from npora.nn import Cache, Dropout, Embedding, LayerNorm, Module, Parameter
from npora.nn.functional import ACTIVATIONS, tanh
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained
from npora.nn.residual import Shared, chain


@dataclass(kw_only=True)
class BertLikeConfig(PretrainedConfig):
    """What the configs of BERT and of the families that vary it have in common."""

    sizes: ClassVar[tuple[str, ...]] = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads",
                                        "intermediate_size", "max_position_embeddings")  # fmt: skip
    multiples: ClassVar = {"hidden_size": "num_attention_heads"}

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True

    @property
    def head_dropout(self) -> float:
        return self.hidden_dropout_prob


@dataclass(kw_only=True)
class BertConfig(BertLikeConfig):
    """A BERT's `config.json`; the defaults are bert-base's."""

    model_type = "bert"
    fixed: ClassVar = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
    sizes = (*BertLikeConfig.sizes, "type_vocab_size")

    type_vocab_size: int = 2
    classifier_dropout: float | None = None

    @property
    def head_dropout(self) -> float:
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout


class BertEmbeddings(Module):
    """h = dropout(LN(word + type + position)).    positions, types int [n]  →  h [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        m = self.width(config)
        self.word_embeddings = make.embedding(config.vocab_size, m, config.pad_token_id)
        self.position_embeddings = make.embedding(config.max_position_embeddings, m)
        self.token_type_embeddings = make.embedding(config.type_vocab_size, m)
        self.LayerNorm = LayerNorm(m, config.layer_norm_eps, dtype=make.dtype)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def width(self, config: Any) -> int:
        """m, a place for a family whose embeddings are narrower than its layers."""
        return int(config.hidden_size)

    def forward(self, words: Array | Shared, positions: Array, types: Array, rng: Rng = None) -> tuple[Array, Back]:
        added = (self.token_type_embeddings, types), (self.position_embeddings, positions)
        x, back_sum = summed(words, self.word_embeddings, *added)  # [n,m]
        h, back_norm = chain(self.LayerNorm, partial(self.dropout, rng=rng))(x)
        return h, lambda dh: back_sum(back_norm(dh))


class BertEncoder(Module):
    """The layers, under the name that files give them, and what a family's layers share."""

    relative_attention_bias: Module

    def __init__(self, layers: list[Module]) -> None:
        self.layer = layers


class BertPooler(Module):
    """y = tanh(W h + b), of each sequence's first row.    h, y [b,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.dense: Module = make.linear(config.hidden_size, config.hidden_size)

    def forward(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.dense, rng=rng), tanh)(h)


class BertModel(PooledBody):
    """The encoder, with its pooler unless `add_pooling_layer` is False. Families that vary it write `positions`, or
    `embed`, with what stands `below` the layers."""

    config_class: ClassVar[type[PretrainedConfig]] = BertConfig
    base_model_prefix = "bert"
    default_target_modules: ClassVar[tuple[str, ...]] = ("query", "value")
    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
    input_embeddings = "embeddings.word_embeddings"
    embeddings_class: ClassVar[Callable[..., Any]] = BertEmbeddings
    layer_class: ClassVar[type[BertLayer]] = BertLayer
    may_lack: ClassVar[tuple[str, ...]] = ("pooler.",)
    ignored = ("embeddings.position_ids", "embeddings.token_type_ids")  # some files hold these constants

    def __init__(
        self,
        config: Any,
        add_pooling_layer: bool = True,
        *,
        rng: Source | int | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        make = Factory(rng, dtype, config.initializer_range)
        self.config = config
        self.embeddings = self.embeddings_class(config, make)
        self.encoder = BertEncoder([self.layer_class(config, make) for _ in range(config.num_hidden_layers)])
        self.pooler = BertPooler(config, make) if add_pooling_layer else None

    def rows(self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None) -> Rows:
        x, back_embeddings = self.embed(tokens, rng)  # [n,m]
        return self.through(
            self.encoder.layer, x, back_embeddings, tokens, below_is_trained=is_trained(*self.below()), read=read,
            cache=cache, rng=rng,
        )  # [k,m]  # fmt: skip

    def embed(self, tokens: Tokens, rng: Rng) -> tuple[Array, Back]:
        """What the lowest layer is given.    →  [n,m]"""
        types = np.zeros_like(tokens.ids) if tokens.token_type_ids is None else tokens.token_type_ids
        return self.embeddings(tokens.words, self.positions(tokens), types, rng)

    def below(self) -> tuple[Module, ...]:
        """What stands below the layers: where any of it is trained, they pass their input's gradient on."""
        return (self.embeddings,)

    def positions(self, tokens: Tokens) -> Array:
        """int [n], the position ids given, or each row's column in the padded batch."""
        check_positions(tokens.positions, self.config.max_position_embeddings)
        return tokens.positions


class BertForSequenceClassification(ForSequenceClassification):
    body_class: ClassVar[type[Body]] = BertModel
    may_lack: ClassVar[tuple[str, ...]] = ("classifier.", "bert.pooler.")

    def add_head(self, config: Any, make: Factory) -> None:
        self.dropout = Dropout(config.head_dropout)
        self.classifier: Module = make.linear(config.hidden_size, self.num_logits(config))

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(*(partial(layer, rng=rng) for layer in (self.body.pooler, self.dropout, self.classifier)))(h)


class BertForMultipleChoice(ForMultipleChoice, BertForSequenceClassification):
    body_class: ClassVar[type[Body]] = BertModel


class BertForTokenClassification(ScoredTokens):
    body_class = BertModel
    body_options: ClassVar = {"add_pooling_layer": False}
    head_name = "classifier"


class BertForMaskedLM(ForMaskedLM):
    body_class: ClassVar[type[Body]] = BertModel
    body_options: ClassVar = {"add_pooling_layer": False}
    may_lack: ClassVar[tuple[str, ...]] = ("cls.",)
    output_embeddings = "cls.predictions.decoder"

    def add_head(self, config: Any, make: Factory) -> None:
        self.cls = BertOnlyMLMHead(config, make, self.body.embedding())

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return self.cls.predictions.transform(h, rng)


class BertOnlyMLMHead(Module):
    def __init__(self, config: Any, make: Factory, embedding: Embedding) -> None:
        self.predictions = BertPredictions(config, make, embedding)


class BertPredictions(Module):
    """The transform, and the projection to the vocabulary: the token embedding, with a bias that has two names, unless
    they are not tied."""

    def __init__(self, config: Any, make: Factory, embedding: Embedding) -> None:
        self.transform = BertTransform(config, make, embedding.out_features)
        self.bias = Parameter(np.zeros(config.vocab_size, dtype=make.dtype))
        self.decoder: Module = masked_projection(embedding, self.bias, config, make)


class BertTransform(Module):
    """z = LN(activation(W h + b)), as wide as the embeddings.    h [n,i]  →  z [n,m]"""

    def __init__(self, config: Any, make: Factory, width: int | None = None) -> None:
        m = config.hidden_size if width is None else width
        self.dense: Module = make.linear(config.hidden_size, m)
        self.LayerNorm = LayerNorm(m, config.layer_norm_eps, dtype=make.dtype)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.dense, rng=rng), self.activation, self.LayerNorm)(h)


class BertForQuestionAnswering(ForQuestionAnswering):
    body_class: ClassVar[type[Body]] = BertModel
    body_options: ClassVar = {"add_pooling_layer": False}

    def idle_parameters(self) -> dict[str, slice]:
        """Also the bias of the norm below the head, for the same reason."""
        last = f"{self.base_model_prefix}.encoder.layer.{self.config.num_hidden_layers - 1}"
        return {**super().idle_parameters(), f"{last}.output.LayerNorm.bias": slice(None)}
