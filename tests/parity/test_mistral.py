"""Mistral against transformers' and PEFT's, in float64: one window for all layers, or none."""

from __future__ import annotations

from typing import ClassVar

from tests.parity.decoders import LLAMA3, SIZES, Decoder


class TestMistral(Decoder):
    family = "mistral"
    sizes: ClassVar = {**SIZES, "head_dim": 10, "sliding_window": 3}
    variants: ClassVar = {
        "plain": {},
        "tied, heads of a usual width": {"tie_word_embeddings": True, "head_dim": None},
        "windows as wide as the texts": {"sliding_window": 7},
        "windows wider than the texts": {"sliding_window": 30},
        "no windows": {"sliding_window": None, "pad_token_id": None},
        "scaled": {"rope_parameters": LLAMA3, "num_key_value_heads": 1},
    }
