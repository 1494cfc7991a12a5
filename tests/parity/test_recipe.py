"""A Hugging Face Dataset and a tokenizer of transformers work as they are, in place of npora's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from npora import AutoModelForSequenceClassification, AutoTokenizer, LoraConfig, Trainer, TrainingArguments
from npora import get_peft_model as adapt
from npora.data import read_tsv
from npora.train.state import trainable
from tests.shared_data import data

datasets = pytest.importorskip("datasets", reason="needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")


def trained(rows: Any, tokenizer: Any, output_dir: Path) -> dict[str, bytes]:
    base = AutoModelForSequenceClassification.from_pretrained(data("checkpoints", "minilm-l6"), num_labels=2)
    model = adapt(base, LoraConfig(r=2, target_modules=["query"], task_type="SEQ_CLS"))

    def encode(row: dict[str, Any]) -> dict[str, Any]:
        return {**tokenizer(row["sentence"], truncation=True, max_length=16), "labels": int(row["label"])}

    args = TrainingArguments(output_dir=str(output_dir), max_steps=2, per_device_train_batch_size=4, disable_tqdm=True)
    Trainer(model, args, train_dataset=rows.map(encode), tokenizer=tokenizer).train()
    return {name: parameter.data.tobytes() for name, parameter in trainable(model).items()}


def test_the_recipe_gives_the_same_bits_with_hugging_faces_data_and_tokenizer(tmp_path: Path) -> None:
    rows = read_tsv(data("sst2", "dev.tsv"))[:12]
    theirs = datasets.Dataset.from_list(list(rows))
    directory = data("checkpoints", "minilm-l6")
    ours = trained(rows, AutoTokenizer.from_pretrained(directory), tmp_path)
    assert trained(theirs, transformers.AutoTokenizer.from_pretrained(directory), tmp_path) == ours
