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
from npora.models.families.bert import BertConfig, BertEmbeddings, BertForQuestionAnswering, BertModel, BertTransform
from npora.models.families.roberta import RobertaClassificationHead
from npora.models.multiple_choice import ForMultipleChoice
from npora.models.pretrained import Factory
from npora.models.tasks import ForMaskedLM, ForSequenceClassification, ScoredTokens, masked_projection
from npora.models.tokens import Tokens
from npora.nn import Dropout, Module, Parameter
from npora.nn.functional import ACTIVATIONS, gelu
from npora.nn.init import Source
from npora.nn.module import Array, Pullback
from npora.nn.residual import chain

_SUMMARY = {"summary_type": "first", "summary_first_dropout": 0.0, "summary_proj_to_labels": False}


@dataclass(kw_only=True)
class ElectraConfig(BertConfig):
    """An ELECTRA's `config.json`; the defaults are electra-small-discriminator's.

    embedding_size : the width of the embeddings, from which a projection leads to hidden_size where it is another
    summary_use_proj, summary_activation, summary_last_dropout : of multiple choice: whether a layer stands between
        the first token and the score, the activation behind it, none where it is None, and what is dropped then
    """

    model_type = "electra"
    sizes = (*BertConfig.sizes, "embedding_size")
    activations = (*BertConfig.activations, "summary_activation")

    embedding_size: int = 128
    hidden_size: int = 256
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    summary_use_proj: bool = True
    summary_activation: str | None = "gelu"
    summary_last_dropout: float = 0.1


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

    def add_head(self, config: Any, make: Factory) -> None:
        self.classifier: Module = ElectraClassificationHead(config, make)


class ElectraClassificationHead(RobertaClassificationHead):
    """RoBERTa's, with a = gelu."""

    activation: ClassVar[Any] = staticmethod(gelu)


class ElectraForMultipleChoice(ForMultipleChoice):
    body_class = ElectraModel
    may_lack = ("classifier.", "sequence_summary.")

    def add_head(self, config: Any, make: Factory) -> None:
        for name, only in _SUMMARY.items():
            if config.kept.get(name, only) != only:
                raise ValueError(f"config: {name}={config.kept[name]!r} is not supported; only {only!r} is")
        self.sequence_summary = ElectraSequenceSummary(config, make)
        self.classifier: Module = make.linear(config.hidden_size, self.num_logits(config))

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.sequence_summary, rng=rng), partial(self.classifier, rng=rng))(h)


class ElectraSequenceSummary(Module):
    """y = dropout(a(W h + b)), with W, b and a where the config has them.    h, y [b,m]"""

    summary: Module | None = None

    def __init__(self, config: Any, make: Factory) -> None:
        if config.summary_use_proj:
            self.summary = make.linear(config.hidden_size, config.hidden_size)
        self.activation = None if config.summary_activation is None else ACTIVATIONS[config.summary_activation]
        self.dropout = Dropout(config.summary_last_dropout)

    def forward(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        project = [] if self.summary is None else [partial(self.summary, rng=rng)]
        activate = [] if self.activation is None else [self.activation]
        return chain(*project, *activate, partial(self.dropout, rng=rng))(h)


class ElectraForTokenClassification(ScoredTokens):
    body_class = ElectraModel
    head_name = "classifier"


class ElectraForMaskedLM(ForMaskedLM):
    body_class = ElectraModel
    head_name = "generator_predictions"
    may_lack = ("generator_predictions.", "generator_lm_head.")
    output_embeddings = "generator_lm_head"

    def add_head(self, config: Any, make: Factory) -> None:
        self.generator_predictions = ElectraGeneratorPredictions(config, make)
        bias = Parameter(np.zeros(config.vocab_size, dtype=make.dtype))
        self.generator_lm_head: Module = masked_projection(self.body.embedding(), bias, config, make)


class ElectraGeneratorPredictions(BertTransform):
    """z = LN(gelu(W h + b)), with the exact GELU, whatever `hidden_act` says.    h [n,i]  →  z [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        super().__init__(config, make, config.embedding_size)
        self.activation = gelu


class ElectraForQuestionAnswering(BertForQuestionAnswering):
    body_class = ElectraModel
    body_options: ClassVar = {}
