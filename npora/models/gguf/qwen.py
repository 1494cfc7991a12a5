"""Qwen2 and Qwen3: Llama's tensors, with their rows as transformers has them."""

from __future__ import annotations

from typing import Any

from npora.models.gguf.architecture import Architecture, Values
from npora.models.gguf.llama import FIELDS, OPTIONAL, TENSORS, read_rotation, write_rotation


def _write(config: Any) -> Values:
    if config.use_sliding_window:
        raise ValueError("use_sliding_window lets layers see a window, and llama.cpp lets every layer see all keys")
    return write_rotation(config)


QWEN2 = Architecture(
    "qwen2", {"qwen2": "Qwen2ForCausalLM"}, FIELDS, "model.layers", TENSORS, OPTIONAL,
    biases=("blk.{}.attn_q", "blk.{}.attn_k", "blk.{}.attn_v"), read=read_rotation, write=_write,
)  # fmt: skip
QWEN3 = Architecture(
    "qwen3", {"qwen3": "Qwen3ForCausalLM"}, FIELDS, "model.layers",
    {**TENSORS, "blk.{}.attn_q_norm": "self_attn.q_norm", "blk.{}.attn_k_norm": "self_attn.k_norm"},
    ("num_key_value_heads",), read=read_rotation, write=_write,
)  # fmt: skip
