"""A small encoder of each family under each head, for tests without files."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora import models
from tests.tiny import randomized

_BERT = {
    "vocab_size": 31, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 7,
    "max_position_embeddings": 12,
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    "roberta": {**_BERT, "max_position_embeddings": 14, "type_vocab_size": 1, "pad_token_id": 1},
    "xlm-roberta": {**_BERT, "max_position_embeddings": 14, "intermediate_size": 5},
    "electra": {**_BERT, "embedding_size": 4},
    "mpnet": {**_BERT, "max_position_embeddings": 14},
    "deberta-v2": {
        **_BERT, "relative_attention": True, "position_buckets": 4, "pos_att_type": "p2c|c2p", "type_vocab_size": 2,
        "norm_rel_ebd": "layer_norm", "embedding_size": 4,
    },
    "modernbert": {
        "vocab_size": 31, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 7,
        "local_attention": 2, "pad_token_id": 0, "attention_dropout": 0.1, "embedding_dropout": 0.1,
        "norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True,
    },
    "distilbert": {
        "vocab_size": 31, "dim": 6, "n_layers": 2, "n_heads": 2, "hidden_dim": 7, "max_position_embeddings": 12,
    },
}  # fmt: skip
HEADS = ("SequenceClassification", "TokenClassification", "MaskedLM")


def tiny_encoder(family: str, head: str, dtype: Any = np.float32, **changes: Any) -> Any:
    """AutoModelFor<head>'s class for this family, every parameter away from zero."""
    made = getattr(models, f"AutoModelFor{head}").classes[family]
    config = made.config_class(**{**SIZES[family], "num_labels": 3, **changes})
    return randomized(made(config, rng=1, dtype=dtype))
