"""A BERT small enough for a test, on disk and in memory, and rows to train it on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from npora import LoraConfig, PeftModel, get_peft_model
from npora.data import Dataset
from npora.files import save_file
from npora.models import BertConfig, BertForSequenceClassification
from npora.nn import Module

SIZES: dict[str, Any] = {
    "vocab_size": 31, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 7,
    "max_position_embeddings": 12,
}  # fmt: skip


_Model = TypeVar("_Model", bound=Module)


def spread(model: _Model, seed: int = 0) -> _Model:
    """Parameters of size 0.5 around where they start: weights of size 0.02 would make every output about 0."""
    rng = np.random.default_rng(seed)
    for parameter in model.parameters():
        parameter.data = (parameter.data + 0.5 * rng.standard_normal(parameter.shape)).astype(parameter.dtype)
    return model


def randomized(module: _Model) -> _Model:
    """Every parameter away from the zeros and ones that it starts with, where errors hide."""
    rng = np.random.default_rng(7)
    for parameter in module.parameters():
        parameter.data = (parameter.data + 0.3 * rng.standard_normal(parameter.shape)).astype(parameter.dtype)
    return module


def tiny_bert(
    num_labels: int = 3, seed: int = 0, dtype: Any = np.float32, **sizes: Any
) -> BertForSequenceClassification:
    config = BertConfig(**{**SIZES, **sizes}, num_labels=num_labels)
    return spread(BertForSequenceClassification(config, rng=seed, dtype=dtype), seed)


def tiny_peft(seed: int = 0, dtype: Any = np.float32, **config: Any) -> PeftModel:
    defaults: dict[str, Any] = {
        "r": 2, "lora_alpha": 4, "lora_dropout": 0.1, "target_modules": ["query", "value"], "task_type": "SEQ_CLS"
    }  # fmt: skip
    return get_peft_model(tiny_bert(seed=seed, dtype=dtype), LoraConfig(**{**defaults, **config}))


def save_bert(model: BertForSequenceClassification, directory: Path) -> Path:
    """config.json and model.safetensors, as transformers writes them."""
    directory.mkdir(exist_ok=True)
    config = {"model_type": "bert", **SIZES, "num_labels": model.config.num_labels}
    (directory / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), directory / "model.safetensors")
    return directory


def tiny_rows(count: int, seed: int = 0) -> Dataset:
    """Sentences of 1 to 9 ids; the class is decided by the first one, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 10, count)
    ids = [rng.integers(1, SIZES["vocab_size"], length).tolist() for length in lengths]
    return Dataset({"input_ids": row, "labels": row[0] % 3} for row in ids)
