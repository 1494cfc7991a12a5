"""RoBERTa: its head and the whole. What it shares with BERT is BERT's rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.catalogue.batches import Maker, encoder, of_sentences, of_tokens
from npora.catalogue.row import Draw, Drawn, Row, call
from npora.models import RobertaConfig, RobertaForMaskedLM, RobertaForSequenceClassification, RobertaModel
from npora.models.pretrained import Factory
from npora.models.roberta import RobertaClassificationHead

CONFIG = RobertaConfig(
    vocab_size=11, hidden_size=6, num_hidden_layers=2, num_attention_heads=2, intermediate_size=7,
    max_position_embeddings=7, num_labels=3,
)  # fmt: skip


def model(kind: Any) -> Maker:
    return lambda d: kind(CONFIG, rng=0)


def head(d: Draw) -> Drawn:
    made = RobertaClassificationHead(CONFIG, Factory(1, np.float32, 0.02))
    return call(d.moved(made), d.normal(5, 6), rng=np.random.default_rng(14))


ROWS = [
    Row("RobertaClassificationHead", head),
    Row("RobertaModel", encoder(model(RobertaModel))),
    Row("roberta", encoder(model(RobertaForSequenceClassification), of_sentences)),
    Row("lora_roberta", encoder(model(RobertaForSequenceClassification), of_sentences, adapted=True)),
    Row("RobertaForMaskedLM", encoder(model(RobertaForMaskedLM), of_tokens(11)), frozen_rounds=True),
]
