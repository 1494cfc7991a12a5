"""Llama, and Mistral and other models of its kind, which llama.cpp calls llama too."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from npora.models.gguf.architecture import Architecture, Values
from npora.models.rope import scaled
from npora.nn import rotary
from npora.nn.module import Array

FIELDS: Mapping[str, str] = MappingProxyType({
    "num_hidden_layers": "block_count", "hidden_size": "embedding_length", "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
    "rms_norm_eps": "attention.layer_norm_rms_epsilon", "max_position_embeddings": "context_length",
    "rope_theta": "rope.freq_base", "head_dim": "attention.key_length",
})  # fmt: skip
OPTIONAL = ("num_key_value_heads", "head_dim")
TENSORS: Mapping[str, str] = MappingProxyType({
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
    "blk.{}.attn_norm": "input_layernorm", "blk.{}.ffn_norm": "post_attention_layernorm",
    "blk.{}.attn_q": "self_attn.q_proj", "blk.{}.attn_k": "self_attn.k_proj", "blk.{}.attn_v": "self_attn.v_proj",
    "blk.{}.attn_output": "self_attn.o_proj", "blk.{}.ffn_gate": "mlp.gate_proj", "blk.{}.ffn_up": "mlp.up_proj",
    "blk.{}.ffn_down": "mlp.down_proj",
})  # fmt: skip
# How far Llama 3.1 and later scale their frequencies; the file has the result alone, in rope_freqs.weight.
_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
_FACTORS = "rope_freqs.weight"


def read_rotation(values: Values, metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    """What the metadata say of the positions. Raises ValueError for a way of scaling that npora has not."""
    kind = metadata.get("rope.scaling.type", "none")
    if kind not in ("none", "linear"):
        raise ValueError(f"rope.scaling.type {kind!r} is not supported; npora reads none and linear")
    if kind == "linear":
        values["rope_scaling"] = {"rope_type": "linear", "factor": metadata.get("rope.scaling.factor")}
    head = values.get("head_dim") or values["hidden_size"] // max(values["num_attention_heads"], 1)
    for key in ("rope.dimension_count", "attention.value_length"):
        if metadata.get(key, head) != head:
            raise ValueError(f"{key} is {metadata[key]}, and a head has {head}: npora turns whole heads of one width")
    if metadata.get("expert_count"):
        raise ValueError(f"expert_count is {metadata['expert_count']}: npora has no mixtures of experts")
    if _FACTORS in tensors:
        values["rope_scaling"] = _llama3(values["rope_theta"], np.asarray(tensors[_FACTORS]), head)


def _llama3(theta: float, factors: Array, width: int) -> dict[str, Any]:
    omega = rotary.frequencies(width, theta)
    scaling = {"rope_type": "llama3", "factor": float(factors.max(initial=1)), **_LLAMA3}
    if factors.shape != omega.shape or not np.allclose(omega / scaled(omega, scaling), factors, rtol=1e-4):
        said = ", ".join(f"{name} {value}" for name, value in _LLAMA3.items())
        raise ValueError(f"{_FACTORS} holds other factors than those of rope_type 'llama3' with {said}")
    return scaling


def _read(values: Values, metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    read_rotation(values, metadata, tensors)
    values["attention_bias"] = "blk.0.attn_q.bias" in tensors
    values["mlp_bias"] = "blk.0.ffn_up.bias" in tensors
    if values["model_type"] == "mistral":
        values["sliding_window"] = None  # which llama.cpp has not


def write_rotation(config: Any) -> Values:
    """The keys of the rotation, and the tensor of the factors. Raises ValueError for what GGUF cannot say."""
    scaling = config.rope_scaling or {"rope_type": "default"}
    keys: Values = {"rope.dimension_count": config.head_dim, "attention.value_length": config.head_dim}
    if scaling["rope_type"] == "linear":
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(scaling["factor"])}
    elif scaling["rope_type"] == "llama3":
        omega = rotary.frequencies(config.head_dim, config.rope_theta)
        keys[_FACTORS] = (omega / scaled(omega, scaling)).astype(np.float32)
    return keys


def _write(config: Any) -> Values:
    if getattr(config, "sliding_window", None) is not None:
        raise ValueError("llama.cpp lets every query of a Mistral see all keys, and this model's see a window of "
                         f"{config.sliding_window}: GGUF cannot say that")  # fmt: skip
    return write_rotation(config)


LLAMA = Architecture(
    "llama", {"llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM"}, FIELDS, "model.layers", TENSORS, OPTIONAL,
    heads={"blk.{}.attn_q": "num_attention_heads", "blk.{}.attn_k": "num_key_value_heads"},
    biases=tuple(f"blk.{{}}.{name}" for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up",
                                                 "ffn_down")),
    read=_read, write=_write,
)  # fmt: skip
