"""BERT's heads: a class for a sequence, a class for each token, the tokens behind the masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.bert import BUFFERS, BertModel
from npora.models.bert_layers import BertConfig, Rng
from npora.models.heads import masked_language_modeling, sequence_classification, token_classification, transformed
from npora.models.outputs import LanguageModelOutput, SequenceClassifierOutput, TokenClassifierOutput
from npora.models.pretrained import Factory, PretrainedModel
from npora.nn import Dropout, LayerNorm, Linear, Module, Parameter, init
from npora.nn.functional import ACTIVATIONS
from npora.nn.init import Source, default_rng
from npora.nn.module import Array, Pullback


class BertForSequenceClassification(PretrainedModel):
    """BERT with a linear head on the pooled first token.

    forward(input_ids [b,t], attention_mask [b,t], token_type_ids [b,t], labels) returns loss and logits [b,v]. The loss
    is what `config.problem_type` says. With labels, backward(dloss=1) adds the gradient of every trainable parameter;
    without them, backward(dlogits) does.
    """

    config_class = BertConfig
    base_model_prefix = "bert"
    default_target_modules = ("query", "value")
    may_lack = ("classifier.", "bert.pooler.")
    ignored = BUFFERS

    def __init__(self, config: BertConfig, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        rng = default_rng(rng)
        self.config = config
        self.bert = BertModel(config, rng=rng, dtype=dtype)
        self.dropout = Dropout(config.head_dropout)
        self.classifier: Module = Factory(rng, dtype, config.initializer_range).linear(
            config.hidden_size, config.num_labels
        )

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[SequenceClassifierOutput, Callable[..., None]]:
        pooled, back_bert = self.bert.pooled(input_ids, attention_mask, token_type_ids, rng)
        pooled, back_dropout = self.dropout(pooled, rng)
        logits, back_classifier = self.classifier(pooled, rng)  # [b,v]

        def back_logits(dlogits: Array) -> None:
            back_bert(back_dropout(back_classifier(dlogits)))

        return sequence_classification(logits, back_logits, labels, self.config.problem_type)


class BertTokenHead(PretrainedModel):
    """A BERT without pooler, and whatever a subclass puts on its rows.

    The body is the attribute that `base_model_prefix` names: families whose body is a `body_class` of the same kind
    (RoBERTa) are subclasses with another prefix.
    """

    config_class = BertConfig
    base_model_prefix = "bert"
    body_class: ClassVar[type[BertModel]] = BertModel
    default_target_modules = ("query", "value")
    ignored = BUFFERS

    def __init__(self, config: BertConfig, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        rng = default_rng(rng)
        self.config = config
        setattr(self, self.base_model_prefix, self.body_class(config, add_pooling_layer=False, rng=rng, dtype=dtype))
        self.add_head(config, Factory(rng, dtype, config.initializer_range))

    def add_head(self, config: BertConfig, make: Factory) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no head")

    @property
    def body(self) -> Any:
        return getattr(self, self.base_model_prefix)


class BertForTokenClassification(BertTokenHead):
    """BERT with a linear head on every token.

    forward(input_ids [b,t], attention_mask [b,t], token_type_ids [b,t], labels [b,t]) returns loss and logits [b,t,v];
    labels are −100 where there is none. With labels, backward(dloss=1); without, backward(dlogits).
    """

    may_lack = ("classifier.",)

    def add_head(self, config: BertConfig, make: Factory) -> None:
        self.dropout = Dropout(config.head_dropout)
        self.classifier: Module = make.linear(config.hidden_size, config.num_labels)

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[TokenClassifierOutput, Callable[..., None]]:
        h, padding, back_rows = self.body.rows(input_ids, attention_mask, token_type_ids, rng)
        h, back_dropout = self.dropout(h, rng)
        return token_classification(h, lambda dh: back_rows(back_dropout(dh)), self.classifier, padding, labels, rng)


class BertForMaskedLM(BertTokenHead):
    """BERT that fills in its masks: each token from all the others (Devlin et al., 2018).

    forward(input_ids [b,t], attention_mask [b,t], token_type_ids [b,t], labels [b,t]) returns loss and logits [b,t,v];
    labels are the tokens behind the masks, −100 elsewhere. With labels, backward(dloss=1); without, backward(dlogits).
    """

    may_lack = ("cls.",)
    output_embeddings = "cls.predictions.decoder"

    def add_head(self, config: BertConfig, make: Factory) -> None:
        self.cls = {"predictions": BertPredictions(config, make, self.body.embeddings.word_embeddings.weight)}

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[LanguageModelOutput, Callable[..., None]]:
        h, padding, back_rows = self.body.rows(input_ids, attention_mask, token_type_ids, rng)
        transform, decoder = self.vocabulary()
        return masked_language_modeling(h, back_rows, transform, decoder, padding, labels, rng)

    def vocabulary(self) -> tuple[Module, Module]:
        """What a row goes through to the logits: the transform, and the tied projection."""
        return self.cls["predictions"].transform, self.cls["predictions"].decoder


class BertPredictions(Module):
    """The transform, and the token embedding as the projection to the vocabulary, with a bias that has two names."""

    def __init__(self, config: BertConfig, make: Factory, tokens: Parameter) -> None:
        self.transform = BertTransform(config, make)
        self.bias = Parameter(np.zeros(config.vocab_size, dtype=make.dtype))
        self.decoder: Module = tied_linear(tokens, self.bias, config.tie_word_embeddings)


class BertTransform(Module):
    """z = LN(activation(W h + b)).    h, z [n,m]"""

    def __init__(self, config: BertConfig, make: Factory) -> None:
        self.dense: Module = make.linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, config.layer_norm_eps, dtype=make.dtype)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return transformed(h, self.dense, self.activation, self.LayerNorm, rng)


def tied_linear(weight: Parameter, bias: Parameter, tie_word_embeddings: bool) -> Linear:
    """A Linear of these very parameters: one that another layer has too sums the gradients of both uses.

    Raises
    ------
    ValueError: the config says that they are not tied.
    """
    if not tie_word_embeddings:
        raise ValueError("config: tie_word_embeddings=False is not supported for masked language models; only True is")
    outputs, inputs = weight.shape
    layer = Linear(inputs, outputs, rng=init.Unset(), dtype=weight.dtype)
    layer.weight, layer.bias = weight, bias
    return layer
