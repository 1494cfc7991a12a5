"""What a model's `config.json` says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from npora.files import read_json
from npora.nn.functional import ACTIVATIONS


@dataclass
class BertConfig:
    """The fields of a BERT's `config.json` that decide what it computes, with transformers' defaults (bert-base)."""

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    classifier_dropout: float | None = None
    num_labels: int = 2

    def __post_init__(self) -> None:
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                     "max_position_embeddings", "type_vocab_size", "num_labels"):  # fmt: skip
            value = getattr(self, name)
            if type(value) is not int or value < (0 if name == "num_hidden_layers" else 1):
                raise ValueError(f"config: {name} must be a positive whole number; got {value!r}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"config: hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
                f"{self.num_attention_heads}"
            )
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"config: hidden_act {self.hidden_act!r} is not one of {', '.join(ACTIVATIONS)}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> BertConfig:
        """Raises ValueError where the file asks for what this BERT does not compute."""
        for name, expected in (("position_embedding_type", "absolute"), ("is_decoder", False),
                               ("add_cross_attention", False)):  # fmt: skip
            if values.get(name, expected) != expected:
                raise ValueError(f"config: {name}={values[name]!r} is not supported; only {expected!r} is")
        known = {key: value for key, value in values.items() if key in cls.__dataclass_fields__}
        if "num_labels" not in values and values.get("id2label"):
            known["num_labels"] = len(values["id2label"])
        return cls(**known)


def read_config(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """`config.json` of a checkpoint. Raises ValueError for a model type that npora does not know."""
    path = os.path.join(directory, "config.json")
    values = read_json(path)
    if values.get("model_type") != "bert":
        raise ValueError(f"{path}: model_type {values.get('model_type')!r} is not supported; npora knows: bert")
    return values
