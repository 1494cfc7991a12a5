"""Measure a model, with or without an adapter, on a file of examples.

Of classes it prints accuracy, F1 and Matthews' correlation, of choices the accuracy, of answers that stand in a text
SQuAD's exact match and F1, of numbers Pearson's and Spearman's correlation and the root of the mean squared error, of
texts the perplexity, of preferences how often and by how much the chosen answer is ahead, of embeddings Spearman's
correlation of cosines and scores, or how often the text that is alike is found. With --metrics the model answers each
prompt, or all of a conversation but its last message, and what it writes is compared with what is there: rouge-l (from
0 to 1), bleu (from 0 to 100), exact-match (the share of answers that are the same to the letter).

The columns and the length of a text are those that finetune was told, unless others are named.
"""

from __future__ import annotations

import argparse

from npora.commands.chats import add_chat_template, choose_form
from npora.commands.encoding import encoded
from npora.commands.examples import add_columns, columns, length, read, refuse_idle_options
from npora.commands.forms import add_form
from npora.commands.loading import add_model, load
from npora.commands.measures import OF_TEXTS, measured
from npora.commands.tasks import TASKS, Classes, Task
from npora.files import check_writable
from npora.train import TrainingArguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_model(parser)
    add("--task", choices=list(TASKS), help="what is measured (default: what the adapter was trained for, else what "
        "the model is for)")  # fmt: skip
    add_columns(parser)
    add_chat_template(parser)
    add_form(parser)
    add("--metrics", metavar="NAMES", help=f"causal-lm, seq2seq-lm: of {', '.join(OF_TEXTS)}, with commas between "
        "them, and perplexity (default: perplexity)")  # fmt: skip
    add("--max-new-tokens", type=int, default=256, metavar="N", help="of --metrics: the most tokens of an answer")
    add("--predictions", metavar="FILE", help="of --metrics: gets the answers, as JSON lines")
    add("--batch-size", type=int, default=32, help="examples at once")
    add("--max-length", type=int, metavar="N", help="the most tokens of a text (default: what finetune was told, else "
        "what the model takes)")  # fmt: skip
    add("file", metavar="FILE", help="examples as for finetune")


def run(options: argparse.Namespace) -> None:
    loaded = load(options, tuple(TASKS), named=options.task)
    task, config, tokenizer = loaded.asked(options.task), loaded.config, loaded.tokenizer
    refuse_idle_options(options, task, options.file)
    names = _metrics(options, task)
    if options.predictions is not None:
        check_writable(options.predictions)
    notes = loaded.notes if task is loaded.task else {}
    found = columns(options, task, notes, options.file)
    choose_form(options, task, found, loaded.model, tokenizer, options.file)
    classes = Classes.of(config) if task.has_classes else None
    examples = read(task, options.file, found, classes)
    figures: dict[str, str] = {}
    if not names or "perplexity" in names:
        usual = None if task.command == "predict" else task.length  # as predict has it, and as finetune
        noted = loaded.notes.get("max_length")
        most = length(task, options.max_length, noted, config, tokenizer, usual)
        arguments = TrainingArguments(per_device_eval_batch_size=options.batch_size)
        given = encoded(task, examples, tokenizer, most, options.file)
        settings = {**task.settings_of(examples), **(notes.get("settings") or {})}
        metrics = task.trainer(loaded.model, arguments, None, given, tokenizer, classes, settings).evaluate()
        figures = {**task.figures(metrics), "loss": f"{metrics['eval_loss']:.4f}"}
    if written := [name for name in names if name in OF_TEXTS]:
        figures |= measured(
            loaded, examples, written, options.file, options.batch_size, options.max_new_tokens, options.predictions
        )
    for name, value in {**figures, "examples": f"{len(examples):,}"}.items():
        print(f"{name:20} {value}")


def _metrics(options: argparse.Namespace, task: Task) -> list[str]:
    """The names that --metrics has. Raises ValueError for one that there is not, and for options that do nothing."""
    names = [name.strip() for name in (options.metrics or "").split(",") if name.strip()]
    if options.metrics is not None and not task.writes:
        raise ValueError(
            f"--metrics measures texts that are written; of {task.name} all figures are printed without it"
        )
    for name in names:
        if name not in OF_TEXTS and name != "perplexity":
            raise ValueError(f"--metrics: there is no {name!r}; there are {', '.join(OF_TEXTS)}, perplexity")
    for option in ("max_new_tokens", "predictions"):
        if option in options.given and not set(names) & set(OF_TEXTS):
            raise ValueError(f"--{option.replace('_', '-')} needs --metrics with one of {', '.join(OF_TEXTS)}")
    return names
