"""DistilBERT: its parts and the whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.catalogue.batches import Maker, encoder, of_sentences, of_tokens
from npora.catalogue.layers import PACKING
from npora.catalogue.row import Draw, Drawn, Row, call
from npora.models import (
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertModel,
)
from npora.models.distilbert import DistilBertEmbeddings, DistilBertLayer
from npora.models.pretrained import Factory

CONFIG = DistilBertConfig(
    vocab_size=11, dim=6, n_layers=2, n_heads=2, hidden_dim=7, max_position_embeddings=5, num_labels=3
)


def model(kind: Any) -> Maker:
    return lambda d: kind(CONFIG, rng=0)


def layer(d: Draw) -> Drawn:
    made = DistilBertLayer(CONFIG, Factory(1, np.float32, 0.02))
    return call(d.moved(made), d.normal(8, 6), packing=PACKING, rng=np.random.default_rng(8))


def embeddings(d: Draw) -> Drawn:
    made = DistilBertEmbeddings(CONFIG, Factory(1, np.float32, 0.02))
    ids, positions = np.array([3, 5, 3]), np.array([0, 1, 2])
    return call(d.moved(made), ids, positions, types=None, rng=np.random.default_rng(9))


ROWS = [
    Row("DistilBertLayer", layer),
    Row("DistilBertEmbeddings", embeddings),
    Row("DistilBertModel", encoder(model(DistilBertModel))),
    Row("distilbert", encoder(model(DistilBertForSequenceClassification), of_sentences)),
    Row("lora_distilbert", encoder(model(DistilBertForSequenceClassification), of_sentences, adapted=True)),
    Row("DistilBertForTokenClassification", encoder(model(DistilBertForTokenClassification), of_tokens(3))),
    Row("DistilBertForMaskedLM", encoder(model(DistilBertForMaskedLM), of_tokens(11)), frozen_rounds=True),
]
