"""A model of each family that GGUF holds, small, and wide enough for its blocks."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.models import BertConfig, BertForSequenceClassification, GPT2Config, GPT2LMHeadModel
from tests.tiny import randomized
from tests.tiny_decoders import tiny_decoder

VOCABULARY = 430
_PLAIN = {"use_sliding_window": False, "layer_types": None}
_OWN: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True}, "mistral": {"sliding_window": None}, "qwen2": _PLAIN,
    "qwen3": _PLAIN,
    "gemma3_text": {
        "num_hidden_layers": 6, "query_pre_attn_scalar": 32, "layer_types": None, "sliding_window": 4, "head_dim": 32,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    },
}  # fmt: skip
DECODERS = (*_OWN, "gpt2")
_SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "head_dim": 16, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64,
}  # fmt: skip


def tiny_gguf(family: str, task: str = "CausalLM", **changes: Any) -> Any:
    if family == "gpt2":
        sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
        return randomized(GPT2LMHeadModel(GPT2Config(**sizes, eos_token_id=1), rng=1))
    if family == "bert":
        sizes = {"vocab_size": VOCABULARY, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
        config = BertConfig(**sizes, num_hidden_layers=2, max_position_embeddings=64, num_labels=3)
        return randomized(BertForSequenceClassification(config, rng=1))
    return tiny_decoder(family, task, np.float32, **{**_SIZES, **_OWN[family], **changes})
