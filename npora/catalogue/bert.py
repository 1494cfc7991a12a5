"""BERT: its parts and the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from npora.catalogue.batches import WORDS, answers, chooser, encoder, of_sentences, of_tokens, part, several
from npora.catalogue.layers import PACKING
from npora.catalogue.row import Row
from npora.models.families.bert import (
    BertConfig,
    BertEmbeddings,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    BertPooler,
)
from npora.models.families.bert_layers import BertLayer
from npora.nn.view import View

CONFIG = BertConfig(
    vocab_size=WORDS, hidden_size=6, num_hidden_layers=2, num_attention_heads=2, intermediate_size=4,
    max_position_embeddings=7, num_labels=3,
)  # fmt: skip
IDS = np.array([3, 5, 4])
READ = np.array([0, 2, 3, 6])  # of PACKING


def types(ids: Any) -> Any:
    return ids % 2


ROWS = [
    Row("BertLayer", part(BertLayer, CONFIG, (8, 6), view=View(PACKING))),
    Row("BertLayer, of rows that are read", part(BertLayer, CONFIG, (8, 6), view=View(PACKING, READ))),
    Row("BertEmbeddings", part(BertEmbeddings, CONFIG, IDS, np.array([0, 1, 2]), types(IDS))),
    Row("BertPooler", part(BertPooler, CONFIG, (7, 6)), row_wise=True),
    Row("BertModel", encoder(BertModel, CONFIG, token_type_ids=types)),
    Row("bert", encoder(BertForSequenceClassification, CONFIG, of_sentences)),
    Row("lora_bert", encoder(BertForSequenceClassification, CONFIG, of_sentences, adapted=True)),
    Row("bert, several labels", encoder(BertForSequenceClassification, CONFIG, several, token_type_ids=types)),
    Row("bert, logits", encoder(BertForSequenceClassification, CONFIG, token_type_ids=types)),
    Row("bert_tokens", encoder(BertForTokenClassification, CONFIG, of_tokens(3))),
    Row("bert_tokens, logits", encoder(BertForTokenClassification, CONFIG, token_type_ids=types)),
    Row("bert_questions", encoder(BertForQuestionAnswering, CONFIG, answers)),
    Row("bert_choices", chooser(BertForMultipleChoice, replace(CONFIG, num_hidden_layers=1))),
    Row("bert_masked_lm", encoder(BertForMaskedLM, CONFIG, of_tokens(WORDS)), frozen_rounds=True),
    Row("bert_masked_lm, logits", encoder(BertForMaskedLM, CONFIG, token_type_ids=types)),
]
