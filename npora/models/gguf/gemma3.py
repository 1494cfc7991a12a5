"""Gemma 3: norms of 1 + w, and layers that see a window but for each sixth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npora.models.gguf.architecture import Architecture, Values
from npora.models.gguf.llama import FIELDS, TENSORS, read_rotation, write_rotation

_PATTERN, _LOCAL = 6, 10_000.0  # which llama.cpp has in its code
_LARGEST = 62  # layers, of the 27 B model: its scores alone are scaled by another width than a head's
_NORMS = {
    "blk.{}.attn_norm": "input_layernorm", "blk.{}.post_attention_norm": "post_attention_layernorm",
    "blk.{}.ffn_norm": "pre_feedforward_layernorm", "blk.{}.post_ffw_norm": "post_feedforward_layernorm",
    "blk.{}.attn_q_norm": "self_attn.q_norm", "blk.{}.attn_k_norm": "self_attn.k_norm", "output_norm": "model.norm",
}  # fmt: skip


def _scalar(values: Mapping[str, Any]) -> float:
    width = values["hidden_size"] // max(values["num_attention_heads"], 1)
    return width if values["num_hidden_layers"] == _LARGEST else values["head_dim"]


def _read(values: Values, metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    read_rotation(values, metadata, tensors)
    if metadata.get("final_logit_softcapping"):
        raise ValueError("final_logit_softcapping is not supported")
    values["query_pre_attn_scalar"] = _scalar(values)
    values["sliding_window_pattern"] = metadata.get("attention.sliding_window_pattern", _PATTERN)
    values["rope_local_base_freq"] = metadata.get("rope.freq_base_swa", _LOCAL)


def _write(config: Any) -> Values:
    values = {name: getattr(config, name) for name in (*FIELDS, "query_pre_attn_scalar")}
    if config.query_pre_attn_scalar != _scalar(values):
        raise ValueError(
            f"query_pre_attn_scalar is {config.query_pre_attn_scalar}, and llama.cpp divides by √{_scalar(values)}"
        )
    kinds = [config.slides(index) for index in range(config.num_hidden_layers)]
    if kinds != [(index + 1) % _PATTERN != 0 for index in range(config.num_hidden_layers)]:
        raise ValueError(f"llama.cpp lets each {_PATTERN}th layer see all, and this model others")
    if config.rope_local_base_freq != _LOCAL:
        raise ValueError(f"rope_local_base_freq is {config.rope_local_base_freq}, and llama.cpp has {_LOCAL}")
    return write_rotation(config)


GEMMA3 = Architecture(
    "gemma3", {"gemma3_text": "Gemma3ForCausalLM"}, {**FIELDS, "sliding_window": "attention.sliding_window"},
    "model.layers", {**TENSORS, **_NORMS}, ("num_key_value_heads",), one_less=tuple(_NORMS), read=_read, write=_write,
)  # fmt: skip
