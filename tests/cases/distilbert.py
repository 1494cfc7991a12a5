"""DistilBERT: its parts and the whole."""

from __future__ import annotations

import numpy as np

from npora.models.families.distilbert import (
    DistilBertConfig,
    DistilBertEmbeddings,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    DistilBertLayer,
    DistilBertModel,
)
from npora.models.pretrained import Factory
from npora.nn.view import View
from tests.cases.case import Case, Outputs, draw, module
from tests.cases.layers import PACKING

SMALL = DistilBertConfig(vocab_size=8, dim=6, n_heads=3, hidden_dim=7, max_position_embeddings=4)
TINY = DistilBertConfig(
    vocab_size=7, dim=4, n_layers=2, n_heads=2, hidden_dim=5, max_position_embeddings=3, num_labels=3
)
IDS = np.array([[3, 5, 3], [1, 4, 0]])
BATCH = {"attention_mask": np.array([[1, 1, 1], [1, 1, 0]])}
TOKEN_LABELS = np.array([[2, -100, 0], [1, -100, -100]])

CASES = [
    Case(
        "DistilBertLayer",
        module(lambda: DistilBertLayer(SMALL, Factory(1, np.float32, 0.02))),
        (draw(8, 6),),
        {"view": View(PACKING), "rng": np.random.default_rng(8)},
    ),
    Case(
        "DistilBertEmbeddings",
        module(lambda: DistilBertEmbeddings(SMALL, Factory(1, np.float32, 0.02))),
        (np.array([3, 5, 3]), np.array([0, 1, 2])),
        {"rng": np.random.default_rng(9)},
    ),
    Case("DistilBertModel", module(lambda: Outputs(DistilBertModel(TINY, rng=1))), (IDS,), BATCH, whole_model=True),
    Case(
        "DistilBertForSequenceClassification",
        module(lambda: Outputs(DistilBertForSequenceClassification(TINY, rng=1))),
        (IDS,),
        {**BATCH, "labels": np.array([2, 0]), "rng": np.random.default_rng(10)},
        whole_model=True,
    ),
    Case(
        "DistilBertForTokenClassification",
        module(lambda: Outputs(DistilBertForTokenClassification(TINY, rng=1))),
        (IDS,),
        {**BATCH, "labels": TOKEN_LABELS, "rng": np.random.default_rng(17)},
        whole_model=True,
    ),
    Case(
        "DistilBertForMaskedLM",
        module(lambda: Outputs(DistilBertForMaskedLM(TINY, rng=1))),
        (IDS,),
        {**BATCH, "labels": np.array([[-100, 4, 6], [-100, 0, -100]]), "rng": np.random.default_rng(18)},
        whole_model=True,
        frozen_rounds=True,
    ),
]
