"""RoBERTa (Liu et al., 2019), with Hugging Face's parameter names: BERT with other positions and other heads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from npora.models.body import Body, Rng
from npora.models.config import PretrainedConfig
from npora.models.families.bert import BertConfig, BertForMultipleChoice, BertForQuestionAnswering, BertModel
from npora.models.pretrained import Factory
from npora.models.tasks import ForMaskedLM, ForSequenceClassification, ScoredTokens, masked_projection
from npora.models.tokens import Tokens, check_positions
from npora.nn import Dropout, Embedding, LayerNorm, Module, Parameter
from npora.nn.functional import gelu, tanh
from npora.nn.module import Array, Pullback
from npora.nn.residual import chain


@dataclass(kw_only=True)
class RobertaConfig(BertConfig):
    """A RoBERTa's `config.json`, with transformers' defaults.

    roberta-base's own file says 514 positions, of which 512 hold a token, one token type, and eps 1e-5.
    """

    model_type = "roberta"

    vocab_size: int = 50265
    pad_token_id: int | None = 1
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pad_token_id is None:
            raise ValueError("config: RoBERTa counts its positions from pad_token_id, which is None")

    @property
    def first_position(self) -> int:
        return (self.pad_token_id or 0) + 1


class RobertaModel(BertModel):
    """The encoder, with its pooler unless `add_pooling_layer` is False. Inputs and outputs are BertModel's.

    Token number k of a sequence, from 1, has position pad_token_id + k, where the padding token does not count: it is
    found by its id, whatever the attention mask says, and sits at position pad_token_id itself.
    """

    config_class: ClassVar[type[PretrainedConfig]] = RobertaConfig
    base_model_prefix = "roberta"

    def __init__(self, config: Any, add_pooling_layer: bool = True, **options: Any) -> None:
        super().__init__(config, add_pooling_layer, **options)
        self.embeddings.position_embeddings.padding_idx = config.pad_token_id

    def positions(self, tokens: Tokens) -> Array:
        """int [n], the position ids given, or as the class says."""
        if tokens.position_ids is not None:
            return super().positions(tokens)
        pad, padding = self.config.pad_token_id, tokens.of_the_batch
        if tokens.padded_ids is None:  # rows are no padding: they count on, whatever the mask says
            return padding.positions + pad + 1
        real = np.asarray(tokens.padded_ids) != pad  # [b,t]
        rows = padding.pack(real.cumsum(axis=1) * real)  # [b,t] → [n], from 1; 0 at the padding token
        check_positions(rows - 1, self.config.max_position_embeddings - pad - 1)
        return np.asarray(rows + pad)


class RobertaForSequenceClassification(ForSequenceClassification):
    body_class: ClassVar[type[Body]] = RobertaModel
    body_options: ClassVar = {"add_pooling_layer": False}

    def add_head(self, config: Any, make: Factory) -> None:
        self.classifier: Module = RobertaClassificationHead(config, make)


class RobertaClassificationHead(Module):
    """W_o dropout(a(W dropout(x) + b)) + b_o, with a = tanh.    x [b,m]  →  [b,v]"""

    activation: ClassVar[Any] = staticmethod(tanh)

    def __init__(self, config: Any, make: Factory) -> None:
        self.dense: Module = make.linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.head_dropout)
        self.out_proj: Module = make.linear(config.hidden_size, config.num_labels)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        dropout = partial(self.dropout, rng=rng)
        return chain(dropout, partial(self.dense, rng=rng), self.activation, dropout, partial(self.out_proj, rng=rng))(
            x
        )


class RobertaForMultipleChoice(BertForMultipleChoice):
    """With BERT's head and its pooler. What is dropped of it is hidden_dropout_prob, whatever classifier_dropout is."""

    body_class: ClassVar[type[Body]] = RobertaModel
    may_lack = ("classifier.", "roberta.pooler.")

    def add_head(self, config: Any, make: Factory) -> None:
        super().add_head(config, make)
        self.dropout = Dropout(config.hidden_dropout_prob)


class RobertaForTokenClassification(ScoredTokens):
    body_class: ClassVar[type[Body]] = RobertaModel
    body_options: ClassVar = {"add_pooling_layer": False}
    head_name = "classifier"


class RobertaForMaskedLM(ForMaskedLM):
    body_class: ClassVar[type[Body]] = RobertaModel
    body_options: ClassVar = {"add_pooling_layer": False}
    head_name = "lm_head"
    output_embeddings = "lm_head.decoder"

    def add_head(self, config: Any, make: Factory) -> None:
        self.lm_head = RobertaLMHead(config, make, self.body.embedding())


class RobertaLMHead(Module):
    """z = LN(gelu(W h + b)): the head up to the vocabulary, beside which stands the `decoder`.    h, z [n,m]

    The activation is the exact GELU, whatever `hidden_act` says.
    """

    def __init__(self, config: Any, make: Factory, embedding: Embedding) -> None:
        self.dense: Module = make.linear(config.hidden_size, config.hidden_size)
        self.layer_norm = LayerNorm(config.hidden_size, config.layer_norm_eps, dtype=make.dtype)
        self.bias = Parameter(np.zeros(config.vocab_size, dtype=make.dtype))
        self.decoder: Module = masked_projection(embedding, self.bias, config, make)

    def forward(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.dense, rng=rng), gelu, self.layer_norm)(h)


class RobertaForQuestionAnswering(BertForQuestionAnswering):
    body_class: ClassVar[type[Body]] = RobertaModel
