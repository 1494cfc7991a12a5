"""BERT: its parts and the whole."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npora import nn
from npora.models.families.bert import (
    BertConfig,
    BertEmbeddings,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLayer,
    BertModel,
    BertPooler,
)
from npora.models.pretrained import Factory
from npora.nn.view import View
from tests.cases.case import Case, Outputs, draw, module
from tests.cases.layers import PACKING

READ = np.array([0, 2, 3, 6])  # of PACKING
SMALL_BERT = BertConfig(
    vocab_size=8, hidden_size=6, num_attention_heads=2, intermediate_size=7, max_position_embeddings=4
)


def bert(layer: Callable[[BertConfig, Factory], nn.Module]) -> Callable[[], nn.Module]:
    return module(lambda: layer(SMALL_BERT, Factory(1, np.float32, 0.02)))


IDS = np.array([[3, 5, 3], [1, 0, 0]])
BATCH = {"attention_mask": np.array([[1, 1, 1], [1, 0, 0]]), "token_type_ids": np.array([[0, 1, 1], [1, 0, 0]])}
TOKEN_LABELS = np.array([[2, -100, 0], [1, -100, -100]])
MASKED = np.array([[-100, 4, 6], [-100, -100, -100]])
TINY_BERT = BertConfig(
    vocab_size=7, hidden_size=4, num_hidden_layers=2, num_attention_heads=2, intermediate_size=5,
    max_position_embeddings=3, num_labels=3, layer_norm_eps=0.1,
)  # fmt: skip

CASES = [
    Case(
        "BertLayer",
        bert(BertLayer),
        (draw(8, 6),),
        {"view": View(PACKING), "rng": np.random.default_rng(8)},
    ),
    Case(
        "BertLayer, of rows that are read",
        bert(BertLayer),
        (draw(8, 6),),
        {"view": View(PACKING, READ), "rng": np.random.default_rng(8)},
    ),
    Case(
        "BertEmbeddings",
        bert(BertEmbeddings),
        (np.array([3, 5, 3]), np.array([0, 1, 2]), np.array([0, 1, 1])),
        {"rng": np.random.default_rng(9)},
    ),
    Case("BertModel", module(lambda: Outputs(BertModel(TINY_BERT, rng=1))), (IDS,), BATCH, whole_model=True),
    Case(
        "BertForSequenceClassification, loss",
        module(lambda: Outputs(BertForSequenceClassification(TINY_BERT, rng=1))),
        (IDS,),
        {**BATCH, "labels": np.array([2, 0]), "rng": np.random.default_rng(10)},
        whole_model=True,
    ),
    Case(
        "BertForSequenceClassification, logits",
        module(lambda: Outputs(BertForSequenceClassification(TINY_BERT, rng=1))),
        (IDS,),
        BATCH,
        whole_model=True,
    ),
    Case(
        "BertForTokenClassification, loss",
        module(lambda: Outputs(BertForTokenClassification(TINY_BERT, rng=1))),
        (IDS,),
        {**BATCH, "labels": TOKEN_LABELS, "rng": np.random.default_rng(12)},
        whole_model=True,
    ),
    Case(
        "BertForTokenClassification, logits",
        module(lambda: Outputs(BertForTokenClassification(TINY_BERT, rng=1))),
        (IDS,),
        BATCH,
        whole_model=True,
    ),
    Case(
        "BertForMaskedLM, loss",
        module(lambda: Outputs(BertForMaskedLM(TINY_BERT, rng=1))),
        (IDS,),
        {**BATCH, "labels": MASKED, "rng": np.random.default_rng(13)},
        whole_model=True,
        frozen_rounds=True,
    ),
    Case(
        "BertForMaskedLM, logits",
        module(lambda: Outputs(BertForMaskedLM(TINY_BERT, rng=1))),
        (IDS,),
        BATCH,
        whole_model=True,
    ),
    Case(
        "BertForSequenceClassification, many labels",
        module(lambda: Outputs(BertForSequenceClassification(TINY_BERT, rng=1))),
        (IDS,),
        {**BATCH, "labels": np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])},
        whole_model=True,
    ),
    Case("BertPooler", bert(BertPooler), (draw(7, 6),), row_wise=True),
]  # fmt: skip
