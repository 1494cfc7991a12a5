"""RoBERTa (Liu et al., 2019), with Hugging Face's parameter names: BERT with other positions and other heads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from npora.models.bert import BertModel
from npora.models.bert_heads import BertForMaskedLM, BertForTokenClassification, BertTokenHead, tied_linear
from npora.models.bert_layers import BertConfig, Rng
from npora.models.heads import sequence_classification, transformed
from npora.models.outputs import SequenceClassifierOutput
from npora.models.pretrained import Factory
from npora.models.tokens import check_positions
from npora.nn import Dropout, LayerNorm, Module, Padding, Parameter
from npora.nn.functional import gelu, tanh
from npora.nn.init import Source
from npora.nn.module import Array, Pullback


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


class RobertaModel(BertModel):
    """The encoder, with its pooler unless `add_pooling_layer` is False. Inputs and outputs are BertModel's.

    Token number k of a sequence, from 1, has position pad_token_id + k, where the padding token does not count: it is
    found by its id, whatever the attention mask says, and sits at position pad_token_id itself.
    """

    config_class = RobertaConfig
    base_model_prefix = "roberta"

    def __init__(
        self,
        config: RobertaConfig,
        add_pooling_layer: bool = True,
        *,
        rng: Source | int | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__(config, add_pooling_layer, rng=rng, dtype=dtype)
        self.embeddings.position_embeddings.padding_idx = config.pad_token_id

    def positions(self, input_ids: Array, padding: Padding) -> Array:
        pad = self.config.pad_token_id
        real = input_ids != pad  # [b,t]
        rows = padding.pack(real.cumsum(axis=1) * real)  # [b,t] → [n], from 1; 0 at the padding token
        check_positions(rows - 1, self.config.max_position_embeddings - pad - 1)
        return np.asarray(rows + pad)


class RobertaClassificationHead(Module):
    """W_o dropout(tanh(W dropout(x) + b)) + b_o.    x [b,m]  →  [b,v]"""

    def __init__(self, config: BertConfig, make: Factory) -> None:
        self.dense = make.linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.head_dropout)
        self.out_proj = make.linear(config.hidden_size, config.num_labels)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        x, back_dropout1 = self.dropout(x, rng)
        z, back_dense = self.dense(x, rng)
        z, back_tanh = tanh(z)
        z, back_dropout2 = self.dropout(z, rng)
        logits, back_out = self.out_proj(z, rng)  # [b,m] → [b,v]
        return logits, lambda dy: back_dropout1(back_dense(back_tanh(back_dropout2(back_out(dy)))))


class RobertaForSequenceClassification(BertTokenHead):
    """RoBERTa with a head of two layers on the first token.

    forward(input_ids [b,t], attention_mask [b,t], token_type_ids [b,t], labels) returns loss and logits [b,v]. The loss
    is what `config.problem_type` says. With labels, backward(dloss=1); without, backward(dlogits).
    """

    config_class = RobertaConfig
    base_model_prefix = "roberta"
    body_class = RobertaModel
    may_lack = ("classifier.",)

    def add_head(self, config: BertConfig, make: Factory) -> None:
        self.classifier: Module = RobertaClassificationHead(config, make)

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[SequenceClassifierOutput, Callable[..., None]]:
        first, _, back_rows = self.body.rows(input_ids, attention_mask, token_type_ids, rng, first_only=True)  # [b,m]
        logits, back_classifier = self.classifier(first, rng)  # [b,v]

        def back_logits(dlogits: Array) -> None:
            back_rows(back_classifier(dlogits))

        return sequence_classification(logits, back_logits, labels, self.config.problem_type)


class RobertaForTokenClassification(BertForTokenClassification):
    """RoBERTa with a linear head on every token: BertForTokenClassification on another body."""

    config_class = RobertaConfig
    base_model_prefix = "roberta"
    body_class = RobertaModel


class RobertaForMaskedLM(BertForMaskedLM):
    """RoBERTa that fills in its masks: BertForMaskedLM on another body, its head under other names."""

    config_class = RobertaConfig
    base_model_prefix = "roberta"
    body_class = RobertaModel
    may_lack = ("lm_head.",)
    output_embeddings = "lm_head.decoder"

    def add_head(self, config: BertConfig, make: Factory) -> None:
        self.lm_head = RobertaLMHead(config, make, self.body.embeddings.word_embeddings.weight)

    def vocabulary(self) -> tuple[Module, Module]:
        return self.lm_head, self.lm_head.decoder


class RobertaLMHead(Module):
    """z = LN(gelu(W h + b)): the head up to the vocabulary, beside which stands the tied `decoder`.    h, z [n,m]

    The activation is the exact GELU, whatever `hidden_act` says.
    """

    def __init__(self, config: BertConfig, make: Factory, tokens: Parameter) -> None:
        self.dense: Module = make.linear(config.hidden_size, config.hidden_size)
        self.layer_norm = LayerNorm(config.hidden_size, config.layer_norm_eps, dtype=make.dtype)
        self.bias = Parameter(np.zeros(config.vocab_size, dtype=make.dtype))
        self.decoder: Module = tied_linear(tokens, self.bias, config.tie_word_embeddings)

    def forward(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return transformed(h, self.dense, gelu, self.layer_norm, rng)
