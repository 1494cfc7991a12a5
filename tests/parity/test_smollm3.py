"""SmolLM3 against transformers' and PEFT's, in float64: layers that see no positions, and windows of these."""

from __future__ import annotations

from typing import ClassVar

from tests.parity.decoders import LLAMA3, SIZES, Decoder


class TestSmolLM3(Decoder):
    family = "smollm3"
    sizes: ClassVar = {**SIZES, "no_rope_layer_interval": 2}
    variants: ClassVar = {
        "plain": {},
        "untied, biases": {"tie_word_embeddings": False, "attention_bias": True, "mlp_bias": True},
        "layers by name": {"no_rope_layers": [0, 1, 0], "num_key_value_heads": 3},
        "windows": {"use_sliding_window": True, "sliding_window": 3},
        "windows by name": {
            "sliding_window": 3, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        "scaled": {"rope_parameters": LLAMA3, "rms_norm_eps": 1e-3},
    }  # fmt: skip
