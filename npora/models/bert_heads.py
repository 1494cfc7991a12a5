"""BERT's heads: classification of sequences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from npora.models.bert import BUFFERS, BertConfig, BertModel, Rng
from npora.models.heads import sequence_classification
from npora.models.outputs import SequenceClassifierOutput
from npora.models.pretrained import Make, PretrainedModel
from npora.nn import Dropout
from npora.nn.init import Source, default_rng
from npora.nn.module import Array


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
        p = config.classifier_dropout
        self.dropout = Dropout(config.hidden_dropout_prob if p is None else p)
        make = Make(rng, dtype, config.initializer_range)
        self.classifier = make.linear(config.hidden_size, config.num_labels)

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[SequenceClassifierOutput, Callable[..., None]]:
        output, back_bert = self.bert(input_ids, attention_mask, token_type_ids, rng)
        pooled, back_dropout = self.dropout(output.pooler_output, rng)
        logits, back_classifier = self.classifier(pooled, rng)  # [b,v]

        def back_logits(dlogits: Array) -> None:
            back_bert(None, back_dropout(back_classifier(dlogits)))

        return sequence_classification(logits, back_logits, labels, self.config.problem_type)
