"""OLMo 2 against transformers' and PEFT's, in float64: norms behind the sublayers, and of all of a query and a key."""

from __future__ import annotations

from typing import ClassVar

from tests.parity.decoders import LINEAR, Decoder


class TestOlmo2(Decoder):
    family = "olmo2"
    variants: ClassVar = {
        "plain": {},
        "tied, one key head": {"tie_word_embeddings": True, "num_key_value_heads": 1},
        "biases": {"attention_bias": True, "rms_norm_eps": 1e-3},
        "wide heads": {"head_dim": 10},
        "scaled": {"rope_parameters": LINEAR},
    }
