"""BERT, without a pooler or a head: GGUF holds the body of sentence encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npora.models.gguf.architecture import Architecture, Values

_TABLES = {
    "token_embd": "bert.embeddings.word_embeddings", "position_embd": "bert.embeddings.position_embeddings",
    "token_types": "bert.embeddings.token_type_embeddings",
}  # fmt: skip
_BIASED = {
    "token_embd_norm": "bert.embeddings.LayerNorm", "blk.{}.attn_q": "attention.self.query",
    "blk.{}.attn_k": "attention.self.key", "blk.{}.attn_v": "attention.self.value",
    "blk.{}.attn_output": "attention.output.dense", "blk.{}.attn_output_norm": "attention.output.LayerNorm",
    "blk.{}.ffn_up": "intermediate.dense", "blk.{}.ffn_down": "output.dense",
    "blk.{}.layer_output_norm": "output.LayerNorm",
}  # fmt: skip


def _read(values: Values, metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    if "token_types.weight" in tensors:
        values["type_vocab_size"] = len(tensors["token_types.weight"])


def _write(config: Any) -> Values:
    if config.hidden_act != "gelu":
        raise ValueError(f"llama.cpp computes a BERT with gelu, and this one has {config.hidden_act}")
    return {
        "attention.causal": False, "pooling_type": 1,  # the mean, where embeddings are asked for
        "tokenizer.ggml.token_type_count": config.type_vocab_size,
    }  # fmt: skip


BERT = Architecture(
    "bert", {"bert": "BertModel"},
    {
        "num_hidden_layers": "block_count", "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length", "num_attention_heads": "attention.head_count",
        "layer_norm_eps": "attention.layer_norm_epsilon", "max_position_embeddings": "context_length",
    },
    "bert.encoder.layer", {**_TABLES, **_BIASED}, biases=tuple(_BIASED), left_out=("bert.pooler.", "cls."), read=_read,
    write=_write,
)  # fmt: skip
