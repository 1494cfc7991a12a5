"""Llama: its layer and the whole."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.catalogue.batches import Maker, decoder, next_tokens, of_sentences
from npora.catalogue.layers import PACKING
from npora.catalogue.row import Draw, Drawn, Row, call
from npora.models.llama import LlamaConfig, LlamaDecoderLayer, LlamaModel
from npora.models.llama_heads import LlamaForCausalLM, LlamaForSequenceClassification
from npora.models.pretrained import Factory
from npora.nn.functional import rotation

SIZES: dict[str, Any] = {
    "vocab_size": 11, "hidden_size": 6, "intermediate_size": 7, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
VARIED: dict[str, Any] = {
    "head_dim": 4, "num_labels": 3, "pad_token_id": 0, "rope_theta": 30.0, "attention_dropout": 0.1,
}  # fmt: skip
TURN = rotation(np.array([0, 1, 2, 7, 3, 4, 5, 6]), 2, 50.0, np.float64)


def drawn_llama(d: Draw) -> LlamaForCausalLM:
    head_dim, tied = 2 * int(d.rng.integers(1, 4)), bool(d.rng.integers(2))
    return LlamaForCausalLM(LlamaConfig(**SIZES, head_dim=head_dim, tie_word_embeddings=tied), rng=0)


def model(kind: Any, **fields: Any) -> Maker:
    return lambda d: kind(LlamaConfig(**SIZES, **VARIED, **fields), rng=0)


def layer(d: Draw) -> Drawn:
    config = LlamaConfig(**SIZES, head_dim=2, attention_bias=True, mlp_bias=True, attention_dropout=0.2)
    made = LlamaDecoderLayer(config, Factory(1, np.float32, 0.02))
    return call(d.moved(made), d.normal(8, 6), packing=PACKING, turn=TURN, rng=np.random.default_rng(8))


ROWS = [
    Row("LlamaDecoderLayer", layer),
    Row("LlamaModel", decoder(model(LlamaModel), position_ids=lambda ids: 3 * ids)),
    Row("llama", decoder(drawn_llama, next_tokens)),
    Row("lora_llama", decoder(drawn_llama, next_tokens, adapted=True)),
    Row("llama, untied", decoder(model(LlamaForCausalLM), next_tokens)),
    Row("llama, tied", decoder(model(LlamaForCausalLM, tie_word_embeddings=True), next_tokens)),
    Row("llama, tied, logits", decoder(model(LlamaForCausalLM, tie_word_embeddings=True))),
    Row("LlamaForSequenceClassification", decoder(model(LlamaForSequenceClassification), of_sentences)),
]
