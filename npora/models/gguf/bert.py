"""BERT, without a pooler or a head: GGUF holds the body of sentence encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npora.models.gguf.architecture import Architecture, Values


def _read(values: Values, metadata: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    values["type_vocab_size"] = len(tensors.get("token_types.weight", "12"))


BERT = Architecture(
    "bert", ("bert",),
    {
        "num_hidden_layers": "block_count", "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length", "num_attention_heads": "attention.head_count",
        "layer_norm_eps": "attention.layer_norm_epsilon", "max_position_embeddings": "context_length",
    },
    "bert.encoder.layer",
    {
        "token_embd": "bert.embeddings.word_embeddings", "position_embd": "bert.embeddings.position_embeddings",
        "token_types": "bert.embeddings.token_type_embeddings", "token_embd_norm": "bert.embeddings.LayerNorm",
        "blk.{}.attn_q": "attention.self.query", "blk.{}.attn_k": "attention.self.key",
        "blk.{}.attn_v": "attention.self.value", "blk.{}.attn_output": "attention.output.dense",
        "blk.{}.attn_output_norm": "attention.output.LayerNorm", "blk.{}.ffn_up": "intermediate.dense",
        "blk.{}.ffn_down": "output.dense", "blk.{}.layer_output_norm": "output.LayerNorm",
    },
    read=_read, write=lambda config: {"attention.causal": False},
)  # fmt: skip
