"""Small random encoders of transformers under each head, the same ones in npora, and batches for both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora.models.auto import FAMILIES
from tests.parity.reference import assert_close, torch, transformers

# Values of size about 1 pass through two layers, at most 24 terms in a sum: 2¹² roundings of 2⁻⁵³ are 5e-13.
FORWARD, BACKWARD = 1e-12, 1e-10

COMMON = {"vocab_size": 50, "num_labels": 3}
SIZES: dict[str, dict[str, Any]] = {
    "bert": {
        "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 20, "num_hidden_layers": 2,
        "max_position_embeddings": 9, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    },
    "roberta": {
        "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 20, "num_hidden_layers": 2,
        "max_position_embeddings": 9, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 1, "hidden_act": "relu",
    },
    "xlm-roberta": {
        "hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 18, "num_hidden_layers": 2,
        "max_position_embeddings": 9, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "type_vocab_size": 2, "pad_token_id": 1,
    },
    "electra": {
        "embedding_size": 14, "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 20,
        "num_hidden_layers": 2, "max_position_embeddings": 9, "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0, "hidden_act": "relu",
    },
    "mpnet": {
        "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 20, "num_hidden_layers": 2,
        "max_position_embeddings": 9, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    },
    "deberta-v2": {  # 12 · (1 + 2) is a square, whose root transformers takes in float32
        "hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 20, "num_hidden_layers": 2,
        "max_position_embeddings": 9, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        "relative_attention": True, "position_buckets": 4, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm",
        "embedding_size": 14, "type_vocab_size": 2, "problem_type": "single_label_classification",  # else in float32
    },
    "modernbert": {
        "hidden_size": 24, "num_attention_heads": 3, "intermediate_size": 20, "num_hidden_layers": 3,
        "local_attention": 3, "global_attn_every_n_layers": 2, "pad_token_id": 0, "hidden_activation": "relu",
    },
    "distilbert": {
        "dim": 24, "n_heads": 3, "hidden_dim": 20, "n_layers": 2, "max_position_embeddings": 9, "dropout": 0.0,
        "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "sinusoidal_pos_embds": True,
    },
}  # fmt: skip
PREFIXES = {family: FAMILIES[family][1] for family in SIZES}
FROM_PADDING = ("roberta", "xlm-roberta", "mpnet")
# Lengths 5, 1 and 3. RoBERTa's padding token, 1, also stands inside the third sentence.
IDS = {
    **dict.fromkeys(
        ("bert", "electra", "deberta-v2", "modernbert"),
        np.array([[7, 3, 44, 9, 12], [31, 0, 0, 0, 0], [5, 5, 49, 0, 0]]),
    ),
    **dict.fromkeys(FROM_PADDING, np.array([[7, 3, 44, 9, 12], [31, 1, 1, 1, 1], [5, 1, 49, 1, 1]])),
    "distilbert": np.array([[7, 3, 44, 9, 12], [31, 0, 0, 0, 0], [5, 0, 49, 0, 0]]),
}
MASK = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
TYPES = np.array([[0, 0, 1, 1, 0], [1, 0, 0, 0, 0], [0, 1, 1, 0, 0]])
LABELS = {
    "SequenceClassification": np.array([2, 0, 1]),
    "TokenClassification": np.array([[2, -100, 0, 0, 1], [-100] * 5, [1, 2, -100, -100, -100]]),
    "MaskedLM": np.array([[-100, 17, 44, -100, -100], [-100] * 5, [-100, -100, 3, -100, -100]]),
}

every_family = pytest.mark.parametrize("family", SIZES)
every_head = pytest.mark.parametrize("head", LABELS)


def batch(family: str) -> dict[str, Any]:
    types = {"token_type_ids": TYPES} if family in ("bert", "electra", "deberta-v2") else {}
    return {"input_ids": IDS[family], "attention_mask": MASK, **types}


def reference(family: str, head: str, directory: Path, **changes: Any) -> Any:
    """A model of transformers in float64 with every parameter drawn anew, saved there too."""
    config = getattr(transformers, PREFIXES[family] + "Config")(**{**COMMON, **SIZES[family], **changes})
    model = getattr(transformers, f"{PREFIXES[family]}For{head}")(config).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            is_norm = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_((1.0 if is_norm else 0.0) + 0.3 * drawn)
    model.save_pretrained(directory)
    return model


def ours(head: str, directory: Path, **keywords: Any) -> Any:
    return getattr(npora, f"AutoModelFor{head}").from_pretrained(directory, dtype=np.float64, **keywords)


def assert_same_logits(found: Any, expected: Any) -> None:
    """At the padding npora's are zeros."""
    if found.ndim == 3:
        assert not found[MASK == 0].any()
        found, expected = found[MASK == 1], expected[torch.tensor(MASK == 1)]
    assert_close(found, expected, FORWARD)
