"""DistilBERT: its parts and the whole."""

from __future__ import annotations

import numpy as np

from npora.catalogue.batches import WORDS, encoder, of_sentences, of_tokens, part
from npora.catalogue.layers import PACKING
from npora.catalogue.row import Row
from npora.models.families.distilbert import (
    DistilBertConfig,
    DistilBertEmbeddings,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertLayer,
    DistilBertModel,
)
from npora.nn.view import View

CONFIG = DistilBertConfig(
    vocab_size=WORDS, dim=6, n_layers=2, n_heads=2, hidden_dim=4, max_position_embeddings=5, num_labels=3
)

ROWS = [
    Row("DistilBertLayer", part(DistilBertLayer, CONFIG, (8, 6), view=View(PACKING))),
    Row("DistilBertEmbeddings", part(DistilBertEmbeddings, CONFIG, np.array([3, 5, 3]), np.arange(3))),
    Row("DistilBertModel", encoder(DistilBertModel, CONFIG)),
    Row("distilbert", encoder(DistilBertForSequenceClassification, CONFIG, of_sentences)),
    Row("lora_distilbert", encoder(DistilBertForSequenceClassification, CONFIG, of_sentences, adapted=True)),
    Row("DistilBertForTokenClassification", encoder(DistilBertForTokenClassification, CONFIG, of_tokens(3))),
    Row("DistilBertForMaskedLM", encoder(DistilBertForMaskedLM, CONFIG, of_tokens(WORDS)), frozen_rounds=True),
]
