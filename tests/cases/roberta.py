"""RoBERTa: its heads and the whole. What it shares with BERT is BERT's rows."""

from __future__ import annotations

import numpy as np

from npora.models.families.roberta import (
    RobertaClassificationHead,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaModel,
)
from npora.models.pretrained import Factory
from tests.cases.case import Case, Outputs, draw, module

TINY = RobertaConfig(
    vocab_size=7, hidden_size=4, num_hidden_layers=2, num_attention_heads=2, intermediate_size=5,
    max_position_embeddings=6, num_labels=3, layer_norm_eps=0.1, type_vocab_size=1, pad_token_id=1,
)  # fmt: skip
IDS = np.array([[0, 3, 5, 2], [6, 2, 4, 1]])
BATCH = {"attention_mask": np.array([[1, 1, 1, 1], [1, 1, 1, 0]])}

CASES = [
    Case(
        "RobertaClassificationHead",
        module(lambda: RobertaClassificationHead(TINY, Factory(1, np.float32, 0.02))),
        (draw(5, 4),),
        {"rng": np.random.default_rng(14)},
    ),
    Case("RobertaModel", module(lambda: Outputs(RobertaModel(TINY, rng=1))), (IDS,), BATCH, whole_model=True),
    Case(
        "RobertaForSequenceClassification",
        module(lambda: Outputs(RobertaForSequenceClassification(TINY, rng=1))),
        (IDS,),
        {**BATCH, "labels": np.array([2, 0]), "rng": np.random.default_rng(15)},
        whole_model=True,
    ),
    Case(
        "RobertaForMaskedLM",
        module(lambda: Outputs(RobertaForMaskedLM(TINY, rng=1))),
        (IDS,),
        {
            **BATCH, "labels": np.array([[-100, 6, -100, 0], [-100, 3, -100, -100]]),
            "rng": np.random.default_rng(16),
        },
        whole_model=True,
        frozen_rounds=True,
    ),
]  # fmt: skip
