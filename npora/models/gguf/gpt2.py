"""GPT-2, whose matrices lie the other way round."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npora.models.gguf.architecture import Architecture, Values

_NORMS = {"output_norm": "transformer.ln_f", "blk.{}.attn_norm": "ln_1", "blk.{}.ffn_norm": "ln_2"}
_MATRICES = {
    "blk.{}.attn_qkv": "attn.c_attn", "blk.{}.attn_output": "attn.c_proj", "blk.{}.ffn_up": "mlp.c_fc",
    "blk.{}.ffn_down": "mlp.c_proj",
}  # fmt: skip


def _read(values: Values, metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    values["n_inner"] = metadata.get("feed_forward_length")


def _write(config: Any) -> Values:
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        raise ValueError(
            "llama.cpp divides a GPT-2's scores by √d in every layer, and this model's are not (GPT2Config)"
        )
    return {"feed_forward_length": config.n_inner or 4 * config.n_embd}


GPT2 = Architecture(
    "gpt2", {"gpt2": "GPT2LMHeadModel"},
    {
        "n_layer": "block_count", "n_embd": "embedding_length", "n_head": "attention.head_count",
        "n_positions": "context_length", "layer_norm_epsilon": "attention.layer_norm_epsilon",
    },
    "transformer.h",
    {
        "token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output": "lm_head", **_NORMS, **_MATRICES,
    },
    biases=(*_NORMS, *_MATRICES), turned=tuple(_MATRICES), read=_read, write=_write,
)  # fmt: skip
