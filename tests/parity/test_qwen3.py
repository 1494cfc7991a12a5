"""Qwen3 against transformers' and PEFT's, in float64: norms of each head's query and key."""

from __future__ import annotations

from typing import ClassVar

from tests.parity.decoders import LINEAR, SIZES, Decoder
from tests.parity.test_qwen2 import windows


class TestQwen3(Decoder):
    family = "qwen3"
    sizes: ClassVar = {**SIZES, "head_dim": 10}
    variants: ClassVar = {
        "plain": {},
        "tied, one key head": {"tie_word_embeddings": True, "num_key_value_heads": 1},
        "biases": {"attention_bias": True, "rms_norm_eps": 1e-3},
        "windows": windows(3),
        "scaled": {"rope_parameters": LINEAR},
    }
