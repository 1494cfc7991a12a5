"""Classify sentences with a model and an adapter.

Prints the class, its probability and the sentence, tab-separated, one line each.
"""

from __future__ import annotations

import argparse
import os
import sys

import numpy as np

from npora.data import AutoTokenizer, Dataset
from npora.files import load_file
from npora.lora import PeftModel
from npora.models import AutoModelForSequenceClassification
from npora.nn.functional import softmax
from npora.train import Trainer, TrainingArguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="the base model that the adapter was trained on")
    add("--adapter", required=True, metavar="DIR", help="an adapter, or the --output of finetune")
    add("--batch-size", type=int, default=32, help="sentences at once")
    add("--max-length", type=int, default=128, help="the most tokens of a sentence")
    add("sentences", nargs="*", metavar="SENTENCE", help="from standard input, a line each, where none is given")


def run(options: argparse.Namespace) -> None:
    sentences = options.sentences or [line.rstrip("\r\n") for line in sys.stdin]
    if not sentences:
        raise ValueError("there is no sentence to classify: name some, or pass them on standard input")
    adapter = os.path.join(options.adapter, "adapter")
    adapter = adapter if os.path.isdir(adapter) else options.adapter
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    base = AutoModelForSequenceClassification.from_pretrained(options.model, _num_labels(adapter))
    model = PeftModel.from_pretrained(base, adapter)
    rows = Dataset(tokenizer(s, truncation=True, max_length=options.max_length) for s in sentences)
    trainer = Trainer(model, TrainingArguments(per_device_eval_batch_size=options.batch_size))
    probabilities, _ = softmax(trainer.predict(rows).predictions)
    for sentence, p in zip(sentences, probabilities, strict=True):
        print(f"{int(p.argmax())}\t{np.max(p):.4f}\t{sentence}")


def _num_labels(adapter: str) -> int | None:
    """How many classes the adapter's own head has, if it saved one."""
    tensors = load_file(os.path.join(adapter, "adapter_model.safetensors"))
    heads = [len(value) for name, value in tensors.items() if name.endswith((".classifier.weight", ".score.weight"))]
    return heads[0] if heads else None
