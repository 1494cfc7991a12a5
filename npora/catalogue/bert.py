"""BERT: its parts and the whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora import nn
from npora.catalogue.batches import Maker, encoder, of_sentences, of_tokens, several
from npora.catalogue.layers import PACKING
from npora.catalogue.row import Draw, Drawn, Row, call
from npora.models import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)
from npora.models.bert import BertEmbeddings
from npora.models.bert_layers import BertLayer, BertPooler
from npora.models.pretrained import Factory

CONFIG = BertConfig(
    vocab_size=11, hidden_size=6, num_hidden_layers=2, num_attention_heads=2, intermediate_size=7,
    max_position_embeddings=7, num_labels=3,
)  # fmt: skip
NO_GAPS = nn.Padding([[1, 1, 1], [1, 0, 0], [1, 1, 1]])  # 7 rows


def model(kind: Any) -> Maker:
    return lambda d: kind(CONFIG, rng=0)


def types(ids: Any) -> Any:
    return ids % 2


def layer(d: Draw) -> Drawn:
    made = BertLayer(CONFIG, Factory(1, np.float32, 0.02))
    return call(d.moved(made), d.normal(8, 6), packing=PACKING, rng=np.random.default_rng(8))


def embeddings(d: Draw) -> Drawn:
    made = BertEmbeddings(CONFIG, Factory(1, np.float32, 0.02))
    ids, positions, types = np.array([3, 5, 3]), np.array([0, 1, 2]), np.array([0, 1, 1])
    return call(d.moved(made), ids, positions, types, rng=np.random.default_rng(9))


def pooler(d: Draw) -> Drawn:
    made = BertPooler(CONFIG, Factory(1, np.float32, 0.02))
    return call(d.moved(made), d.normal(7, 6), padding=NO_GAPS, rng=None)


ROWS = [
    Row("BertLayer", layer),
    Row("BertEmbeddings", embeddings),
    Row("BertPooler", pooler),
    Row("BertModel", encoder(model(BertModel), token_type_ids=types)),
    Row("bert", encoder(model(BertForSequenceClassification), of_sentences)),
    Row("lora_bert", encoder(model(BertForSequenceClassification), of_sentences, adapted=True)),
    Row("bert, several labels", encoder(model(BertForSequenceClassification), several, token_type_ids=types)),
    Row("bert, logits", encoder(model(BertForSequenceClassification), token_type_ids=types)),
    Row("bert_tokens", encoder(model(BertForTokenClassification), of_tokens(3))),
    Row("bert_tokens, logits", encoder(model(BertForTokenClassification), token_type_ids=types)),
    Row("bert_masked_lm", encoder(model(BertForMaskedLM), of_tokens(11)), frozen_rounds=True),
    Row("bert_masked_lm, logits", encoder(model(BertForMaskedLM), token_type_ids=types)),
]
