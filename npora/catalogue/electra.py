"""ELECTRA: its heads and the whole. What it shares with BERT is BERT's rows."""

from __future__ import annotations

from typing import Any

from npora.catalogue.batches import WORDS, encoder, of_sentences, of_tokens, part
from npora.catalogue.row import Row
from npora.models.families.electra import (
    ElectraClassificationHead,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForSequenceClassification,
    ElectraForTokenClassification,
    ElectraGeneratorPredictions,
    ElectraModel,
    ElectraSequenceSummary,
)

SIZES: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 5,
    "max_position_embeddings": 7, "num_labels": 3,
}  # fmt: skip
NARROW, WIDE = ElectraConfig(**SIZES, embedding_size=4), ElectraConfig(**SIZES, embedding_size=6)

ROWS = [
    Row("ElectraClassificationHead", part(ElectraClassificationHead, NARROW, (5, 6))),
    Row("ElectraGeneratorPredictions", part(ElectraGeneratorPredictions, NARROW, (5, 6))),
    Row("ElectraSequenceSummary", part(ElectraSequenceSummary, NARROW, (5, 6))),
    Row("ElectraModel", encoder(ElectraModel, NARROW)),
    Row("electra", encoder(ElectraForSequenceClassification, NARROW, of_sentences)),
    Row("lora_electra", encoder(ElectraForSequenceClassification, NARROW, of_sentences, adapted=True)),
    Row("electra, embeddings as wide as the layers", encoder(ElectraForTokenClassification, WIDE, of_tokens(3))),
    Row("ElectraForMaskedLM", encoder(ElectraForMaskedLM, NARROW, of_tokens(WORDS)), frozen_rounds=True),
]
