"""Classify sentences, or their words, with a model, with or without an adapter.

Prints the class, its probability and the sentence, tab-separated, one line for each sentence, a batch at a time. A
class is printed by its name where the model has names. Of a regression the number stands there instead; of classes
that do not exclude each other those above 0.5, with their probabilities, separated by commas. Of a model that tags
words the tags stand there, with spaces between them, one for each word; words are what spaces separate.

Of a model of multiple choice a sentence is a question and its choices with tabs between them, and the number of the
likeliest choice stands in the place of the class, counted from 0.

Of a model that answers questions a sentence is a question and the text that is asked with a tab between them, and the
answer, as it stands in the text, in the place of the class; an empty one where the text holds none.

Of a model of images a sentence is the path of one.

Where the adapter was trained on pairs, or with --pairs, a sentence is two texts with a tab between them.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from npora.commands import standard_input
from npora.commands.examples import is_cut, length, say_cut
from npora.commands.loading import add_model, load
from npora.commands.tasks import TASKS, Task
from npora.data.dataset import Example
from npora.machine.heap import keeping_freed_memory
from npora.train import Trainer, TrainingArguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_model(parser)
    add("--pairs", action="store_true", help="a sentence is two texts with a tab between them")
    add("--batch-size", type=int, default=32, help="sentences at once")
    add("--max-length", type=int, metavar="N", help="the most tokens of a sentence (default: what finetune was told, "
        "else what the model takes)")  # fmt: skip
    add("sentences", nargs="*", metavar="SENTENCE", help="from standard input, a line each, where none is given")


def run(options: argparse.Namespace) -> None:
    if options.batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1; got {options.batch_size}")
    loaded = load(options, tuple(name for name, task in TASKS.items() if task.command == "predict"))
    task, config, noted = loaded.task, loaded.config, loaded.notes.get("max_length")
    if options.pairs and not (task.has_classes and "text_pair_column" in task.options):
        raise ValueError(f"--pairs is for classification; this is {task.name}")
    pairs = options.pairs or bool(loaded.notes.get("columns", {}).get("text_pair"))
    most = length(task, options.max_length, noted, config, loaded.tokenizer)
    trainer = Trainer(loaded.model, TrainingArguments(per_device_eval_batch_size=options.batch_size, disable_tqdm=True))
    done = cut = 0
    with keeping_freed_memory():
        for sentences in _batches(
            options.sentences or (line.rstrip("\r\n") for line in standard_input.lines()), options.batch_size
        ):
            encoded: list[Example] = []
            for sentence in sentences:
                done += 1
                example = task.typed(sentence, done, pairs)
                try:
                    parts = task.encode(example, loaded.tokenizer, most)
                except ValueError as error:
                    raise ValueError(f"sentence {done}: {error}") from None
                cut += is_cut(task, example, parts, loaded.tokenizer, most)
                encoded += parts
            said = itertools.chain.from_iterable(
                _said(task, trainer, [*alike], config) for _, alike in itertools.groupby(encoded, task.batched_by)
            )
            for sentence, line in zip(sentences, said, strict=True):
                print(f"{line}\t{' '.join(sentence.splitlines())}")
            sys.stdout.flush()
    if not done:
        raise ValueError("there is no sentence to classify: name some, or pass them on standard input")
    say_cut(cut, done, most, "the sentences")


def _batches(sentences: Iterable[str], size: int) -> Iterator[list[str]]:
    """As they come: a batch waits for its own sentences alone."""
    iterator = iter(sentences)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _said(task: Task, trainer: Trainer, encoded: list[Example], config: Any) -> Iterator[str]:
    unlabelled = [{name: value for name, value in own.items() if name != "labels"} for own in encoded]
    return task.said(trainer.predict(unlabelled).predictions, encoded, config)
