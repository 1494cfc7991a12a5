"""GPT-2: its block and the whole."""

from __future__ import annotations

from functools import partial
from typing import Any

from npora.catalogue.batches import WORDS, decoder, next_tokens, of_sentences, part
from npora.catalogue.layers import PACKING
from npora.catalogue.row import Row
from npora.models.families.gpt2 import GPT2Block, GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, GPT2Model
from npora.nn.view import View

SIZES: dict[str, Any] = {"vocab_size": WORDS, "n_positions": 5, "n_embd": 6, "n_layer": 2, "n_head": 2}
WIDE, NARROW = GPT2Config(**SIZES), GPT2Config(**SIZES, n_inner=4)
VARIED = GPT2Config(**SIZES, n_inner=4, scale_attn_by_inverse_layer_idx=True, num_labels=3, pad_token_id=0)

ROWS = [
    Row("GPT2Block", part(partial(GPT2Block, index=1), VARIED, (8, 6), view=View(PACKING))),
    Row("GPT2Model", decoder(GPT2Model, VARIED)),
    Row("gpt2", decoder(GPT2LMHeadModel, NARROW, next_tokens)),
    Row("lora_gpt2", decoder(GPT2LMHeadModel, WIDE, next_tokens, adapted=True)),
    Row("gpt2, logits", decoder(GPT2LMHeadModel, VARIED)),
    Row("GPT2ForSequenceClassification", decoder(GPT2ForSequenceClassification, VARIED, of_sentences)),
]
