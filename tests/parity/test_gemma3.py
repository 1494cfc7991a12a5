"""Gemma 3's text models against transformers' and PEFT's, in float64: layers of windows and of whole views in turn."""

from __future__ import annotations

from typing import ClassVar

from tests.parity.decoders import LINEAR, LLAMA3, SIZES, Decoder

LOCAL = {"rope_type": "default", "rope_theta": 37.0}


class TestGemma3(Decoder):
    family = "gemma3_text"
    sizes: ClassVar = {
        **SIZES,
        "head_dim": 10,
        "query_pre_attn_scalar": 13,
        "sliding_window": 3,
        "sliding_window_pattern": 2,
    }
    centre = 0.0
    variants: ClassVar = {
        "plain": {},
        "untied, biases, one key head": {
            "tie_word_embeddings": False, "attention_bias": True, "num_key_value_heads": 1, "rms_norm_eps": 1e-3,
        },
        "windows as wide as the texts": {"sliding_window": 7},
        "windows wider than the texts": {"sliding_window": 30},
        "by layers": {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"]},
        "scaled": {"rope_parameters": {"full_attention": LINEAR, "sliding_attention": LOCAL}},
        "scaled by wavelengths": {"rope_parameters": {"full_attention": LLAMA3, "sliding_attention": LOCAL}},
    }  # fmt: skip
