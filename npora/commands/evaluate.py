"""Measure a model, with or without an adapter, on a file of examples: loss and accuracy, or perplexity.

The columns and the length of a text are those that finetune was told, unless others are named.
"""

from __future__ import annotations

import argparse

from npora.commands.encoding import encoded
from npora.commands.examples import add_columns, columns, length, read, refuse_idle_options
from npora.commands.loading import add_model, agree_on_the_end, load
from npora.commands.tasks import TASKS, Classes
from npora.train import Trainer, TrainingArguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_model(parser)
    add_columns(parser)
    add("--batch-size", type=int, default=32, help="examples at once")
    add("--max-length", type=int, metavar="N", help="the most tokens of a text (default: what finetune was told, else "
        "what the model takes)")  # fmt: skip
    add("file", metavar="FILE", help="examples as for finetune")


def run(options: argparse.Namespace) -> None:
    loaded = load(options, tuple(TASKS))
    task, config, tokenizer = loaded.task, loaded.config, loaded.tokenizer
    refuse_idle_options(options, task, options.file)
    agree_on_the_end(task, loaded.model, tokenizer)
    classes = Classes.of(config) if task.name == "classification" else None
    examples = read(task, options.file, columns(options, task, loaded.notes), classes)
    usual = None if task.name == "classification" else task.length  # as predict has it, and as finetune
    most = length(options.max_length, loaded.notes.get("max_length"), config, tokenizer, usual)
    arguments = TrainingArguments(per_device_eval_batch_size=options.batch_size)
    trainer = Trainer(loaded.model, arguments, compute_metrics=task.metrics(classes))
    metrics = trainer.evaluate(encoded(task, examples, tokenizer, most, options.file))
    figures = {**task.figures(metrics), "loss": f"{metrics['eval_loss']:.4f}", "examples": f"{len(examples):,}"}
    for name, value in figures.items():
        print(f"{name:20} {value}")
