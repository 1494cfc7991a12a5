"""Llama: its layer and the whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from npora.catalogue.batches import decoder, next_tokens, of_sentences, part
from npora.catalogue.layers import PACKING
from npora.catalogue.row import Draw, Row
from npora.models.families.llama import (
    LlamaConfig,
    LlamaDecoderLayer,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
)
from npora.nn.functional import frequencies, rotation
from npora.nn.view import View

SIZES: dict[str, Any] = {
    "vocab_size": 9, "hidden_size": 5, "intermediate_size": 4, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
VARIED: dict[str, Any] = {
    **SIZES, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "num_labels": 3,
    "pad_token_id": 0, "rope_theta": 30.0, "attention_dropout": 0.1,
}  # fmt: skip
UNTIED, TIED = LlamaConfig(**VARIED), LlamaConfig(**VARIED, tie_word_embeddings=True)
BIASED = LlamaConfig(**SIZES, head_dim=2, attention_bias=True, mlp_bias=True, attention_dropout=0.2)
TURN = rotation(np.array([0, 1, 2, 7, 3, 4, 5, 6]), frequencies(2, 50.0), np.float64)


def drawn(kind: Any, **fields: Any) -> Callable[[Draw], Any]:
    """The config of a model of Llama's kind."""

    def config(d: Draw) -> Any:
        sizes = {"head_dim": 2 * int(d.rng.integers(1, 3)), "tie_word_embeddings": bool(d.rng.integers(2))}
        return kind.config_class(**{**SIZES, **sizes, **fields})

    return config


ROWS = [
    Row("LlamaDecoderLayer", part(partial(LlamaDecoderLayer, index=0), BIASED, (8, 5), view=View(PACKING), turn=TURN)),
    Row("LlamaModel", decoder(LlamaModel, UNTIED, position_ids=lambda ids: 3 * ids)),
    Row("llama", decoder(LlamaForCausalLM, drawn(LlamaForCausalLM), next_tokens)),
    Row("lora_llama", decoder(LlamaForCausalLM, drawn(LlamaForCausalLM), next_tokens, adapted=True)),
    Row("llama, untied", decoder(LlamaForCausalLM, UNTIED, next_tokens)),
    Row("llama, tied", decoder(LlamaForCausalLM, TIED, next_tokens)),
    Row("llama, tied, logits", decoder(LlamaForCausalLM, TIED)),
    Row("LlamaForSequenceClassification", decoder(LlamaForSequenceClassification, UNTIED, of_sentences)),
]
