"""Llama: its parts and the whole."""

from __future__ import annotations

import numpy as np

from npora.models.families.llama import (
    LlamaConfig,
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
)
from npora.models.pretrained import Factory
from npora.nn.functional import frequencies, rotation, swiglu
from npora.nn.view import View
from tests.cases.case import Case, Outputs, draw, module
from tests.cases.layers import PACKING

TURN = rotation(np.array([0, 1, 2, 7, 3, 4, 5, 6]), frequencies(2, 50.0), np.float64)
SMALL = LlamaConfig(
    vocab_size=8, hidden_size=6, intermediate_size=7, num_attention_heads=4, num_key_value_heads=2, head_dim=2,
    attention_bias=True, mlp_bias=True, attention_dropout=0.2, rope_theta=50.0,
)  # fmt: skip
TINY = LlamaConfig(
    vocab_size=7, hidden_size=6, intermediate_size=5, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=4, num_labels=3, pad_token_id=0, rms_norm_eps=0.1, rope_theta=30.0,
    attention_dropout=0.1,
)  # fmt: skip
TIED = LlamaConfig(**{**vars(TINY), "tie_word_embeddings": True, "pad_token_id": None})
IDS = np.array([[3, 5, 3], [1, 4, 0]])
MASK = np.array([[1, 1, 1], [1, 1, 0]])
LABELS = np.array([[-100, 5, 3], [1, 4, -100]])

CASES = [
    Case("swiglu", lambda: swiglu, (draw(3, 5), draw(3, 5, seed=1))),
    Case(
        "LlamaDecoderLayer",
        module(lambda: LlamaDecoderLayer(SMALL, Factory(1, np.float32, 0.02), 0)),
        (draw(8, 6),),
        {"view": View(PACKING), "turn": TURN, "rng": np.random.default_rng(8)},
    ),
    Case(
        "LlamaModel",
        module(lambda: Outputs(LlamaModel(TINY, rng=1))),
        (IDS,),
        {"attention_mask": MASK, "position_ids": np.array([[2, 0, 5], [1, 3, 0]])},
        whole_model=True,
    ),
    Case(
        "LlamaForCausalLM, loss",
        module(lambda: Outputs(LlamaForCausalLM(TINY, rng=1))),
        (IDS,),
        {"attention_mask": MASK, "labels": LABELS, "rng": np.random.default_rng(10)},
        whole_model=True,
    ),
    Case(
        "LlamaForCausalLM, tied, loss",
        module(lambda: Outputs(LlamaForCausalLM(TIED, rng=1))),
        (IDS,),
        {"attention_mask": MASK, "labels": LABELS},
        whole_model=True,
    ),
    Case(
        "LlamaForCausalLM, tied, logits",
        module(lambda: Outputs(LlamaForCausalLM(TIED, rng=1))),
        (IDS,),
        {"attention_mask": MASK},
        whole_model=True,
    ),
    Case(
        "LlamaForSequenceClassification",
        module(lambda: Outputs(LlamaForSequenceClassification(TINY, rng=1))),
        (IDS,),
        {"attention_mask": MASK, "labels": np.array([2, 0]), "rng": np.random.default_rng(11)},
        whole_model=True,
    ),
]
