"""MPNet, whole. What it shares with BERT, RoBERTa and T5 is their rows."""

from __future__ import annotations

from npora.catalogue.batches import WORDS, encoder, of_sentences, of_tokens
from npora.catalogue.row import Row
from npora.models.families.mpnet import (
    MPNetConfig,
    MPNetForMaskedLM,
    MPNetForSequenceClassification,
    MPNetForTokenClassification,
    MPNetModel,
)

CONFIG = MPNetConfig(
    vocab_size=WORDS, hidden_size=6, num_hidden_layers=2, num_attention_heads=2, intermediate_size=4,
    max_position_embeddings=7, num_labels=3,
)  # fmt: skip

ROWS = [
    Row("MPNetModel", encoder(MPNetModel, CONFIG)),
    Row("mpnet", encoder(MPNetForSequenceClassification, CONFIG, of_sentences)),
    Row("lora_mpnet", encoder(MPNetForSequenceClassification, CONFIG, of_sentences, adapted=True)),
    Row("MPNetForTokenClassification", encoder(MPNetForTokenClassification, CONFIG, of_tokens(3))),
    Row("MPNetForMaskedLM", encoder(MPNetForMaskedLM, CONFIG, of_tokens(WORDS)), frozen_rounds=True),
]
