"""ModernBERT: its parts and the whole."""

from __future__ import annotations

from functools import partial
from typing import Any

from npora.catalogue.batches import WORDS, encoder, of_sentences, of_tokens, part
from npora.catalogue.layers import PACKING
from npora.catalogue.llama import TURN
from npora.catalogue.row import Draw, Drawn, Row, call
from npora.models.families.modernbert import (
    ModernBertEncoderLayer,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    ModernBertForTokenClassification,
    ModernBertModel,
    ModernBertPredictionHead,
)
from npora.models.families.modernbert_config import ModernBertConfig
from npora.nn.packing import mean_of_sequences
from npora.nn.view import View

SIZES: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 6, "num_hidden_layers": 2, "intermediate_size": 5, "num_labels": 3,
    "local_attention": 2, "pad_token_id": 0, "attention_dropout": 0.1,
}  # fmt: skip
BIASES: dict[str, Any] = {name: True for name in ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias")}
PLAIN = ModernBertConfig(**SIZES, num_attention_heads=1, mlp_dropout=0.1, embedding_dropout=0.1, classifier_dropout=0.1)
BIASED = ModernBertConfig(**SIZES, **BIASES, num_attention_heads=3, global_rope_theta=30.0, local_rope_theta=7.0)
MEAN = ModernBertConfig(**SIZES, num_attention_heads=1, classifier_pooling="mean", decoder_bias=False)


def mean(d: Draw) -> Drawn:
    packing = d.packing()
    return call(mean_of_sequences, d.scaled(packing.rows, d.sizes(1)[0]), packing=packing)


ROWS = [
    Row("mean_of_sequences", mean),
    Row(
        "ModernBertEncoderLayer",
        part(partial(ModernBertEncoderLayer, index=1), BIASED, (8, 6), view=View(PACKING), turn=TURN),
    ),
    Row("ModernBertPredictionHead", part(ModernBertPredictionHead, BIASED, (5, 6))),
    Row("ModernBertModel", encoder(ModernBertModel, BIASED)),
    Row("modernbert", encoder(ModernBertForSequenceClassification, PLAIN, of_sentences)),
    Row("lora_modernbert", encoder(ModernBertForSequenceClassification, PLAIN, of_sentences, adapted=True)),
    Row("modernbert, mean", encoder(ModernBertForSequenceClassification, MEAN, of_sentences)),
    Row("ModernBertForTokenClassification", encoder(ModernBertForTokenClassification, PLAIN, of_tokens(3))),
    Row("ModernBertForMaskedLM", encoder(ModernBertForMaskedLM, BIASED, of_tokens(WORDS)), frozen_rounds=True),
]
