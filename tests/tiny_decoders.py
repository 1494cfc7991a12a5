"""Llama and the families that vary it, small enough for a test: two layers, the first of which sees a window where the
family has any."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from npora.models.auto import tasks_of
from tests.tiny import randomized

SIZES: dict[str, Any] = {
    "vocab_size": 13, "hidden_size": 6, "intermediate_size": 7, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 4, "num_labels": 3, "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
_TYPES = ["sliding_attention", "full_attention"]
OWN: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "mistral": {"sliding_window": 2},
    "phi3": {"sliding_window": 2},
    "olmo2": {"attention_bias": True},
    "smollm3": {
        "no_rope_layer_interval": 2, "use_sliding_window": True, "sliding_window": 2, "layer_types": _TYPES,
        "tie_word_embeddings": False,
    },
    "qwen2": {"use_sliding_window": True, "sliding_window": 2, "layer_types": _TYPES},
    "qwen3": {"use_sliding_window": True, "sliding_window": 2, "layer_types": _TYPES},
    "gemma3_text": {"sliding_window": 2, "layer_types": _TYPES, "query_pre_attn_scalar": 5},
}  # fmt: skip
FAMILIES = tuple(OWN)
WINDOWED = tuple(family for family in OWN if "sliding_window" in OWN[family])


def tiny_decoder(family: str, task: str = "CausalLM", dtype: npt.DTypeLike = np.float64, **changes: Any) -> Any:
    """Every parameter away from the zeros and ones that it starts with."""
    kind: Any = tasks_of(family)[task]
    return randomized(kind(kind.config_class(**{**SIZES, **OWN[family], **changes}), rng=1, dtype=dtype))
