"""ELECTRA (Clark et al., 2020): BERT whose embeddings may be narrower than its layers, with other heads.

A small one learnt to fill masks (the generator), a larger one to tell what is a filling (the discriminator); it is the
latter that is fine-tuned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Back, Rng
from npora.models.families.bert import BertConfig, BertEmbeddings, BertForQuestionAnswering, BertModel
from npora.models.families.roberta import RobertaClassificationHead
from npora.models.pretrained import Factory
from npora.models.tasks import ForMaskedLM, ForSequenceClassification, ScoredTokens, masked_projection
from npora.models.tokens import Tokens
from npora.nn import LayerNorm, Module, Parameter
from npora.nn.functional import gelu
from npora.nn.init import Source
from npora.nn.module import Array, Pullback
from npora.nn.residual import chain


@dataclass(kw_only=True)
class ElectraConfig(BertConfig):
    """An ELECTRA's `config.json`; the defaults are electra-small-discriminator's.

    embedding_size : the width of the embeddings, from which a projection leads to hidden_size where it is another
    """

    model_type = "electra"
    sizes = (*BertConfig.sizes, "embedding_size")

    embedding_size: int = 128
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 1024


class ElectraEmbeddings(BertEmbeddings):
    def width(self, config: Any) -> int:
        return int(config.embedding_size)


class ElectraModel(BertModel):
    """The encoder, without a pooler. Inputs are BertModel's."""

    config_class = ElectraConfig
    base_model_prefix = "electra"
    embeddings_class = ElectraEmbeddings
    may_lack = ()
    embeddings_project: Module | None = None

    def __init__(self, config: Any, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32) -> None:
        make = Factory(rng, dtype, config.initializer_range)
        super().__init__(config, add_pooling_layer=False, rng=make.rng, dtype=dtype)
        if config.embedding_size != config.hidden_size:
            self.embeddings_project = make.linear(config.embedding_size, config.hidden_size)

    def below(self) -> tuple[Module, ...]:
        return (self.embeddings,) if self.embeddings_project is None else (self.embeddings, self.embeddings_project)

    def embed(self, tokens: Tokens, rng: Rng) -> tuple[Array, Back]:
        x, back_embeddings = super().embed(tokens, rng)
        if self.embeddings_project is None:
            return x, back_embeddings
        x, back_project = self.embeddings_project(x, rng)  # [n,m]
        return x, lambda dx: back_embeddings(back_project(dx))


class ElectraForSequenceClassification(ForSequenceClassification):
    body_class = ElectraModel
    may_lack = ("classifier.",)

    def add_head(self, config: Any, make: Factory) -> None:
        self.classifier: Module = ElectraClassificationHead(config, make)

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return self.classifier(h, rng)


class ElectraClassificationHead(RobertaClassificationHead):
    """RoBERTa's, with a = gelu."""

    activation: ClassVar[Any] = staticmethod(gelu)


class ElectraForTokenClassification(ScoredTokens):
    body_class = ElectraModel
    score_name = "classifier"


class ElectraForMaskedLM(ForMaskedLM):
    body_class = ElectraModel
    may_lack = ("generator_predictions.", "generator_lm_head.")
    output_embeddings = "generator_lm_head"

    def add_head(self, config: Any, make: Factory) -> None:
        self.generator_predictions = ElectraGeneratorPredictions(config, make)
        bias = Parameter(np.zeros(config.vocab_size, dtype=make.dtype))
        self.generator_lm_head: Module = masked_projection(self.body.embedding(), bias, config, make)

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return self.generator_predictions(h, rng)


class ElectraGeneratorPredictions(Module):
    """z = LN(gelu(W h + b)), as wide as the embeddings.    h [n,i]  →  z [n,m]

    The activation is the exact GELU, whatever `hidden_act` says.
    """

    def __init__(self, config: Any, make: Factory) -> None:
        self.dense: Module = make.linear(config.hidden_size, config.embedding_size)
        self.LayerNorm = LayerNorm(config.embedding_size, config.layer_norm_eps, dtype=make.dtype)

    def forward(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.dense, rng=rng), gelu, self.LayerNorm)(h)


class ElectraForQuestionAnswering(BertForQuestionAnswering):
    body_class = ElectraModel
    body_options: ClassVar = {}


TASKS = {
    "MaskedLM": ElectraForMaskedLM,
    "QuestionAnswering": ElectraForQuestionAnswering,
    "SequenceClassification": ElectraForSequenceClassification,
    "TokenClassification": ElectraForTokenClassification,
}
