"""DistilBERT's heads: a class for a sequence, a class for each token, the tokens behind the masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.bert import BUFFERS
from npora.models.bert_heads import tied_linear
from npora.models.bert_layers import Rng
from npora.models.distilbert import EPS, DistilBertConfig, DistilBertModel
from npora.models.heads import masked_language_modeling, sequence_classification, token_classification, transformed
from npora.models.outputs import LanguageModelOutput, SequenceClassifierOutput, TokenClassifierOutput
from npora.models.pretrained import Factory, PretrainedModel
from npora.nn import Dropout, LayerNorm, Module, Parameter
from npora.nn.functional import ACTIVATIONS, relu
from npora.nn.init import Source, default_rng
from npora.nn.module import Array, Pullback


class DistilBertHead(PretrainedModel):
    """A DistilBERT, and whatever a subclass puts on its rows."""

    config_class = DistilBertConfig
    base_model_prefix = "distilbert"
    default_target_modules = ("q_lin", "v_lin")
    ignored = BUFFERS

    def __init__(self, config: DistilBertConfig, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        rng = default_rng(rng)
        self.config = config
        self.distilbert = DistilBertModel(config, rng=rng, dtype=dtype)
        self.add_head(config, Factory(rng, dtype, config.initializer_range))

    def add_head(self, config: DistilBertConfig, make: Factory) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no head")


class DistilBertForSequenceClassification(DistilBertHead):
    """DistilBERT with a head of two layers on the first token: classifier(dropout(relu(pre_classifier(h)))).

    forward(input_ids [b,t], attention_mask [b,t], labels) returns loss and logits [b,v]. The loss is what
    `config.problem_type` says. With labels, backward(dloss=1); without, backward(dlogits).

    An adapter that trains `classifier` trains `pre_classifier` too: PEFT finds the modules that it saves by the bare
    end of their path, so that the one name takes both, and its files hold both.
    """

    may_lack = ("pre_classifier.", "classifier.")
    saved_along: ClassVar = {"classifier": ("pre_classifier",)}

    def add_head(self, config: DistilBertConfig, make: Factory) -> None:
        self.pre_classifier: Module = make.linear(config.dim, config.dim)
        self.classifier: Module = make.linear(config.dim, config.num_labels)
        self.dropout = Dropout(config.seq_classif_dropout)

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[SequenceClassifierOutput, Callable[..., None]]:
        z, _, back_rows = self.distilbert.rows(input_ids, attention_mask, rng, first_only=True)  # [b,m]
        z, back_pre = self.pre_classifier(z, rng)
        z, back_relu = relu(z)
        z, back_dropout = self.dropout(z, rng)
        logits, back_classifier = self.classifier(z, rng)  # [b,v]

        def back_logits(dlogits: Array) -> None:
            back_rows(back_pre(back_relu(back_dropout(back_classifier(dlogits)))))

        return sequence_classification(logits, back_logits, labels, self.config.problem_type)


class DistilBertForTokenClassification(DistilBertHead):
    """DistilBERT with a linear head on every token.

    forward(input_ids [b,t], attention_mask [b,t], labels [b,t]) returns loss and logits [b,t,v]; labels are −100 where
    there is none. With labels, backward(dloss=1); without, backward(dlogits).
    """

    may_lack = ("classifier.",)

    def add_head(self, config: DistilBertConfig, make: Factory) -> None:
        self.dropout = Dropout(config.dropout)
        self.classifier: Module = make.linear(config.dim, config.num_labels)

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[TokenClassifierOutput, Callable[..., None]]:
        h, padding, back_rows = self.distilbert.rows(input_ids, attention_mask, rng)
        h, back_dropout = self.dropout(h, rng)
        return token_classification(h, lambda dh: back_rows(back_dropout(dh)), self.classifier, padding, labels, rng)


class DistilBertForMaskedLM(DistilBertHead):
    """DistilBERT that fills in its masks, with its token embedding as the projection to the vocabulary.

    forward(input_ids [b,t], attention_mask [b,t], labels [b,t]) returns loss and logits [b,t,v]; labels are the tokens
    behind the masks, −100 elsewhere. With labels, backward(dloss=1); without, backward(dlogits).
    """

    may_lack = ("vocab_transform.", "vocab_layer_norm.", "vocab_projector.")
    output_embeddings = "vocab_projector"

    def add_head(self, config: DistilBertConfig, make: Factory) -> None:
        self.vocab_transform: Module = make.linear(config.dim, config.dim)
        self.vocab_layer_norm = LayerNorm(config.dim, EPS, dtype=make.dtype)
        bias = Parameter(np.zeros(config.vocab_size, dtype=make.dtype))
        tokens = self.distilbert.embeddings.word_embeddings.weight
        self.vocab_projector: Module = tied_linear(tokens, bias, config.tie_word_embeddings)
        self.activation = ACTIVATIONS[config.activation]

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[LanguageModelOutput, Callable[..., None]]:
        h, padding, back_rows = self.distilbert.rows(input_ids, attention_mask, rng)
        return masked_language_modeling(h, back_rows, self._transform, self.vocab_projector, padding, labels, rng)

    def _transform(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return transformed(h, self.vocab_transform, self.activation, self.vocab_layer_norm, rng)
