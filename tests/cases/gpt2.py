"""GPT-2: its parts and the whole."""

from __future__ import annotations

import numpy as np

from npora.models.families.gpt2 import GPT2Block, GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, GPT2Model
from npora.models.pretrained import Factory
from npora.nn.view import View
from tests.cases.case import Case, Outputs, draw, module
from tests.cases.layers import PACKING

SMALL = GPT2Config(vocab_size=8, n_positions=5, n_embd=6, n_layer=2, n_head=3, n_inner=7)
TINY = GPT2Config(
    vocab_size=7, n_positions=4, n_embd=4, n_layer=2, n_head=2, n_inner=5, num_labels=3, pad_token_id=0,
    scale_attn_by_inverse_layer_idx=True, layer_norm_epsilon=0.1,
)  # fmt: skip
IDS = np.array([[3, 5, 3], [1, 4, 0]])
MASK = np.array([[1, 1, 1], [1, 1, 0]])
LABELS = np.array([[3, 5, -100], [1, 4, -100]])

CASES = [
    Case(
        "GPT2Block",
        module(lambda: GPT2Block(SMALL, Factory(1, np.float32, 0.02), index=0)),
        (draw(8, 6),),
        {"view": View(PACKING), "rng": np.random.default_rng(8)},
    ),
    Case(
        "GPT2Model", module(lambda: Outputs(GPT2Model(TINY, rng=1))), (IDS,), {"attention_mask": MASK}, whole_model=True
    ),
    Case(
        "GPT2LMHeadModel, loss",
        module(lambda: Outputs(GPT2LMHeadModel(TINY, rng=1))),
        (IDS,),
        {"attention_mask": MASK, "labels": LABELS, "rng": np.random.default_rng(10)},
        whole_model=True,
    ),
    Case(
        "GPT2LMHeadModel, logits",
        module(lambda: Outputs(GPT2LMHeadModel(TINY, rng=1))),
        (IDS,),
        {"attention_mask": MASK},
        whole_model=True,
    ),
    Case(
        "GPT2ForSequenceClassification",
        module(lambda: Outputs(GPT2ForSequenceClassification(TINY, rng=1))),
        (IDS,),
        {"attention_mask": MASK, "labels": np.array([2, 0]), "rng": np.random.default_rng(11)},
        whole_model=True,
    ),
]
