"""GPT-2: its block and the whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.catalogue.batches import Maker, decoder, next_tokens, of_sentences
from npora.catalogue.layers import PACKING
from npora.catalogue.row import Draw, Drawn, Row, call
from npora.models.gpt2 import GPT2Block, GPT2Config, GPT2Model
from npora.models.gpt2_heads import GPT2ForSequenceClassification, GPT2LMHeadModel
from npora.models.pretrained import Factory

SIZES: dict[str, Any] = {"vocab_size": 11, "n_positions": 6, "n_embd": 6, "n_layer": 2, "n_head": 2}
VARIED: dict[str, Any] = {"n_inner": 7, "scale_attn_by_inverse_layer_idx": True, "num_labels": 3, "pad_token_id": 0}


def model(kind: Any, **fields: Any) -> Maker:
    return lambda d: kind(GPT2Config(**SIZES, **fields), rng=0)


def block(d: Draw) -> Drawn:
    made = GPT2Block(GPT2Config(**SIZES, **VARIED), Factory(1, np.float32, 0.02), index=1)
    return call(d.moved(made), d.normal(8, 6), packing=PACKING, rng=np.random.default_rng(8))


ROWS = [
    Row("GPT2Block", block),
    Row("GPT2Model", decoder(model(GPT2Model, **VARIED))),
    Row("gpt2", decoder(model(GPT2LMHeadModel), next_tokens)),
    Row("lora_gpt2", decoder(model(GPT2LMHeadModel), next_tokens, adapted=True)),
    Row("gpt2, logits", decoder(model(GPT2LMHeadModel, **VARIED))),
    Row("GPT2ForSequenceClassification", decoder(model(GPT2ForSequenceClassification, **VARIED), of_sentences)),
]
