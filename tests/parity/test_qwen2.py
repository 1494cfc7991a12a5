"""Qwen2 against transformers' and PEFT's, in float64: biases, and windows in its upper layers."""

from __future__ import annotations

from typing import ClassVar

from tests.parity.decoders import LLAMA3, Decoder


def windows(width: int) -> dict[str, object]:
    return {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": width}


class TestQwen2(Decoder):
    family = "qwen2"
    variants: ClassVar = {
        "plain": {},
        "tied": {"tie_word_embeddings": True, "pad_token_id": None},
        "heads of their own width": {"head_dim": 10, "rms_norm_eps": 1e-3},
        "windows narrower than the texts": windows(3),
        "windows as wide as the texts": windows(7),
        "windows wider than the texts": windows(30),
        "windows by layers": {
            **windows(2),
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        "scaled": {"rope_parameters": LLAMA3},
    }
