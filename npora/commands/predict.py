"""Classify sentences, or their words, with a model, with or without an adapter.

Prints the class, its probability and the sentence, tab-separated, one line for each sentence, a batch at a time. A
class is printed by its name where the model has names. Of a regression the number stands there instead; of classes
that do not exclude each other those above 0.5, with their probabilities, separated by commas. Of a model that tags
words the tags stand there, with spaces between them, one for each word; words are what spaces separate.

Of a model of multiple choice a sentence is a question and its choices with tabs between them, and the number of the
likeliest choice stands in the place of the class, counted from 0.

Of a model of images a sentence is the path of one.

Where the adapter was trained on pairs, or with --pairs, a sentence is two texts with a tab between them.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from npora.commands import standard_input
from npora.commands.examples import is_cut, length, say_cut
from npora.commands.loading import add_model, load
from npora.commands.tasks import TASKS
from npora.data.collate import IGNORED
from npora.data.dataset import Example
from npora.machine.heap import keeping_freed_memory
from npora.nn.functional import softmax
from npora.nn.module import Array
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
    task = loaded.task.name
    if task != "classification" and options.pairs:
        raise ValueError(f"--pairs is for classification; this is {task}")
    pairs = options.pairs or bool(loaded.notes.get("columns", {}).get("text_pair"))
    if loaded.task.reads_images and options.max_length is not None:
        raise ValueError(f"--max-length is for texts; this is {task}")
    noted, config = loaded.notes.get("max_length"), loaded.config
    most = None if loaded.task.reads_images else length(options.max_length, noted, config, loaded.tokenizer)
    trainer = Trainer(loaded.model, TrainingArguments(per_device_eval_batch_size=options.batch_size, disable_tqdm=True))
    done = cut = 0
    with keeping_freed_memory():
        for sentences in _batches(
            options.sentences or (line.rstrip("\r\n") for line in standard_input.lines()), options.batch_size
        ):
            encoded: list[Example] = []
            for sentence in sentences:
                done += 1
                example = _example(task, sentence, pairs, done)
                parts = loaded.task.encode(example, loaded.tokenizer, most)
                cut += is_cut(loaded.task, example, parts, loaded.tokenizer, most)
                encoded += parts
            first = [example.pop("labels") for example in encoded] if task == "token-classification" else []
            said = itertools.chain.from_iterable(
                _said(task, trainer.predict([*alike]).predictions, first, loaded.config)
                for _, alike in itertools.groupby(encoded, partial(_choices, task))
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


def _choices(task: str, encoded: Example) -> int:
    """How many there are: a batch has as many of each sentence."""
    return len(encoded["input_ids"]) if task == "multiple-choice" else 0


def _said(task: str, found: Array, first: Sequence[Sequence[int]], config: Any) -> Iterator[str]:
    if task == "token-classification":
        return tags(found, first, config)
    return choices(found) if task == "multiple-choice" else lines(found, config)


def _words(sentence: str, number: int) -> Example:
    """The words with a tag each, which is to be predicted: where it comes to stand is where the word's is."""
    if not (words := sentence.split()):
        raise ValueError(f"sentence {number} has no words")
    return {"words": words, "tags": [0] * len(words)}


def _example(task: str, sentence: str, pairs: bool, number: int) -> Example:
    if task == "token-classification":
        return _words(sentence, number)
    if task == "image-classification":
        return {"image": sentence}
    if task == "multiple-choice":
        question, *choices = sentence.split("\t")
        if len(choices) < 2:
            raise ValueError(
                f"sentence {number}: a question and its choices with tabs between them were expected; got {sentence!r}"
            )
        return {"text": question, "choices": choices}
    if not pairs:
        return {"text": sentence}
    first, tab, second = sentence.partition("\t")
    if not tab:
        raise ValueError(f"sentence {number}: two texts with a tab between them were expected; got {sentence!r}")
    return {"text": first, "text_pair": second}


def _names(config: Any) -> list[str]:
    return [str(i) if name == f"LABEL_{i}" else name for i, name in sorted(config.id2label.items())]


def tags(logits: Array, first: Sequence[Sequence[int]], config: Any) -> Iterator[str]:
    """The tags of each text's words, by the logits [n,t,v] of the first token of each."""
    names = _names(config)
    for row, labels in zip(logits.argmax(axis=-1), first, strict=True):
        yield " ".join(names[tag] for tag, label in zip(row, labels, strict=False) if label != IGNORED)


def choices(logits: Array) -> Iterator[str]:
    """The likeliest choice of each example, and its probability, by the logits [n,c]."""
    probabilities, _ = softmax(logits)
    yield from (f"{p.argmax()}\t{p.max():.4f}" for p in probabilities)


def lines(logits: Array, config: Any) -> Iterator[str]:
    """What the logits [n,v] of each example say under a model's config."""
    names = _names(config)
    if config.problem_type == "regression" or config.num_labels == 1:
        yield from ("\t".join(f"{value:.4f}" for value in z) for z in logits)
    elif config.problem_type == "multi_label_classification":
        for example in logits:
            p = {name: 1 / (1 + math.exp(-z)) for name, z in zip(names, example, strict=True) if z > 0}
            yield ",".join(p) + "\t" + ",".join(f"{value:.4f}" for value in p.values())
    else:
        probabilities, _ = softmax(logits)
        yield from (f"{names[int(p.argmax())]}\t{p.max():.4f}" for p in probabilities)
