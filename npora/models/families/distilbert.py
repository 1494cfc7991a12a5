"""DistilBERT (Sanh et al., 2019), with Hugging Face's parameter names.

BERT's layers without token types and without pooler. Post-norm: each sublayer is LN(x + f(x)).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Back, Body, Rng, Rows
from npora.models.config import PretrainedConfig
from npora.models.families.bert import BertEncoder, BertModel
from npora.models.families.bert_layers import BertSelfAttention
from npora.models.multiple_choice import ForMultipleChoice
from npora.models.pretrained import Factory
from npora.models.question_answering import ForQuestionAnswering
from npora.models.tasks import ForMaskedLM, ForSequenceClassification, ScoredTokens, masked_projection
from npora.models.tokens import Tokens, check_positions, summed
from npora.nn import Cache, Dropout, LayerNorm, Module, Parameter
from npora.nn.functional import ACTIVATIONS, relu
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained
from npora.nn.residual import Shared, chain, residual
from npora.nn.view import View

EPS = 1e-12  # of every norm: the config has no field for it


@dataclass(kw_only=True)
class DistilBertConfig(PretrainedConfig):
    """A DistilBERT's `config.json`; the defaults are distilbert-base's.

    `sinusoidal_pos_embds` says how the position embeddings were first filled. They are in the file: it changes nothing.
    """

    model_type = "distilbert"
    aliases: ClassVar = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
    sizes = ("vocab_size", "max_position_embeddings", "n_layers", "n_heads", "dim", "hidden_dim")
    multiples: ClassVar = {"dim": "n_heads"}
    activations = ("activation",)

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False
    n_layers: int = 6
    n_heads: int = 12
    dim: int = 768
    hidden_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    seq_classif_dropout: float = 0.2
    qa_dropout: float = 0.1
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True

    @property
    def head_dropout(self) -> float:
        return self.dropout


class DistilBertEmbeddings(Module):
    """h = dropout(LN(word + position)).    positions int [n]  →  h [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.word_embeddings = make.embedding(config.vocab_size, config.dim, config.pad_token_id)
        self.position_embeddings = make.embedding(config.max_position_embeddings, config.dim)
        self.LayerNorm = LayerNorm(config.dim, EPS, dtype=make.dtype)
        self.dropout = Dropout(config.dropout)

    def forward(self, words: Array | Shared, positions: Array, rng: Rng = None) -> tuple[Array, Back]:
        x, back_sum = summed(words, self.word_embeddings, (self.position_embeddings, positions))  # [n,m]
        h, back_norm = chain(self.LayerNorm, partial(self.dropout, rng=rng))(x)
        return h, lambda dh: back_sum(back_norm(dh))


class DistilBertAttention(BertSelfAttention):
    """BERT's heads, with the output projection beside the others.    x [n,m]  →  [k,m]"""

    names = ("q_lin", "k_lin", "v_lin")

    def __init__(self, config: Any, make: Factory) -> None:
        super().__init__(config.dim, config.n_heads, config.attention_dropout, make)
        self.out_lin: Module = make.linear(config.dim, config.dim)

    def forward(self, x: Array, view: View, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(super().forward, view=view, rng=rng), partial(self.out_lin, rng=rng))(x)


class DistilBertFFN(Module):
    """y = dropout(W₂ activation(W₁ x)).    x [n,m]  →  y [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.lin1: Module = make.linear(config.dim, config.hidden_dim)
        self.lin2: Module = make.linear(config.hidden_dim, config.dim)
        self.activation, self.dropout = ACTIVATIONS[config.activation], Dropout(config.dropout)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        lin1, lin2, dropout = (partial(f, rng=rng) for f in (self.lin1, self.lin2, self.dropout))
        return chain(lin1, self.activation, lin2, dropout)(x)


class DistilBertLayer(Module):
    """h = LN(x + attention(x)), y = LN(h + FFN(h)).    x [n,m]  →  y [k,m], of the rows that are read"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.attention = DistilBertAttention(config, make)
        self.sa_layer_norm = LayerNorm(config.dim, EPS, dtype=make.dtype)
        self.ffn = DistilBertFFN(config, make)
        self.output_layer_norm = LayerNorm(config.dim, EPS, dtype=make.dtype)

    def forward(self, x: Array, view: View, rng: Rng = None) -> tuple[Array, Pullback]:
        attend = partial(residual, partial(self.attention, view=view, rng=rng), view=view)
        feed_forward = partial(residual, partial(self.ffn, rng=rng))
        return chain(attend, self.sa_layer_norm, feed_forward, self.output_layer_norm)(x)


class DistilBertModel(Body):
    """The encoder without a head."""

    config_class = DistilBertConfig
    base_model_prefix = "distilbert"
    default_target_modules = ("q_lin", "v_lin")
    input_embeddings = BertModel.input_embeddings
    ignored = BertModel.ignored

    def __init__(self, config: Any, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32) -> None:
        make = Factory(rng, dtype, config.initializer_range)
        self.config = config
        self.embeddings = DistilBertEmbeddings(config, make)
        self.transformer = BertEncoder([DistilBertLayer(config, make) for _ in range(config.n_layers)])

    def rows(self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None) -> Rows:
        check_positions(tokens.positions, self.config.max_position_embeddings)
        x, back_embeddings = self.embeddings(tokens.words, tokens.positions, rng)  # [n,m]
        return self.through(
            self.transformer.layer, x, back_embeddings, tokens, below_is_trained=is_trained(self.embeddings), read=read,
            cache=cache, rng=rng,
        )  # [k,m]  # fmt: skip


class DistilBertForSequenceClassification(ForSequenceClassification):
    """A head of two layers on the first token: classifier(dropout(relu(pre_classifier(h)))).

    An adapter that trains `classifier` trains `pre_classifier` too: PEFT finds the modules that it saves by the bare
    end of their path, so that the one name takes both, and its files hold both.
    """

    body_class = DistilBertModel
    may_lack = ("pre_classifier.", "classifier.")
    saved_along: ClassVar = {"classifier": ("pre_classifier",)}

    def add_head(self, config: Any, make: Factory) -> None:
        self.pre_classifier: Module = make.linear(config.dim, config.dim)
        self.classifier: Module = make.linear(config.dim, self.num_logits(config))
        self.dropout = Dropout(config.seq_classif_dropout)

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        dropout, classifier = partial(self.dropout, rng=rng), partial(self.classifier, rng=rng)
        return chain(partial(self.pre_classifier, rng=rng), relu, dropout, classifier)(h)


class DistilBertForMultipleChoice(ForMultipleChoice, DistilBertForSequenceClassification):
    body_class = DistilBertModel


class DistilBertForTokenClassification(ScoredTokens):
    body_class = DistilBertModel
    head_name = "classifier"


class DistilBertForMaskedLM(ForMaskedLM):
    body_class = DistilBertModel
    may_lack = ("vocab_transform.", "vocab_layer_norm.", "vocab_projector.")
    output_embeddings = "vocab_projector"

    def add_head(self, config: Any, make: Factory) -> None:
        self.vocab_transform: Module = make.linear(config.dim, config.dim)
        self.vocab_layer_norm = LayerNorm(config.dim, EPS, dtype=make.dtype)
        bias = Parameter(np.zeros(config.vocab_size, dtype=make.dtype))
        self.vocab_projector: Module = masked_projection(self.body.embedding(), bias, config, make)
        self.activation = ACTIVATIONS[config.activation]

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.vocab_transform, rng=rng), self.activation, self.vocab_layer_norm)(h)


class DistilBertForQuestionAnswering(ForQuestionAnswering):
    body_class = DistilBertModel

    def add_head(self, config: Any, make: Factory) -> None:
        super().add_head(config, make)
        self.dropout = Dropout(config.qa_dropout)

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.dropout, rng=rng), partial(self.qa_outputs, rng=rng))(h)
