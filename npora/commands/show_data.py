"""Show what finetune would learn of a file: the tokens of a few examples, those that are learnt marked.

On a terminal learnt tokens are green and the others grey, in two shades that alternate from token to token; elsewhere ⟦
⟧ stand around what is learnt. Of preferences the prompt stands with the chosen answer first, and then with the rejected
one; of choices the right one is marked, of questions the answer, or the first token where there is none. An image is
drawn in characters, as the model reads it, from its darkest number to its brightest. Below all are the numbers of the
file. A file of which nothing is learnt is refused, as finetune refuses it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from npora.commands.chats import add_chat_template, choose_form
from npora.commands.drawn import drawn
from npora.commands.encoding import encoded
from npora.commands.examples import add_columns, columns, length, read, refuse_idle_options
from npora.commands.labels import settled
from npora.commands.loading import base_folder
from npora.commands.tasks import TASKS, Classes
from npora.data import Tokenizer
from npora.data.collate import IGNORED
from npora.data.columns import examples_at
from npora.data.dataset import Example
from npora.models.config import PROBLEM_TYPES

_LEARNT, _READ = ("\033[1;32m", "\033[32m"), ("\033[90m", "\033[37m")
_PLAIN = "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="whose tokenizer, template and length are taken: a directory, or "
        "org/name on the hub")  # fmt: skip
    add("--task", default="causal-lm", choices=list(TASKS), help="what is learnt")
    add_columns(parser)
    add_chat_template(parser)
    add("--num-labels", type=int, metavar="N", help="classification: number of classes, 1 for a regression")
    add("--problem-type", choices=PROBLEM_TYPES, help="classification: as for finetune")
    add("--max-length", type=int, metavar="N", help="the most tokens of a text (default: as for finetune)")
    add("--examples", type=int, default=3, metavar="N", help="how many are shown")
    add("file", metavar="FILE", help="examples as for finetune")


def run(options: argparse.Namespace) -> None:
    if options.examples < 1:
        raise ValueError(f"--examples must be at least 1; got {options.examples}")
    task = TASKS[options.task]
    refuse_idle_options(options, task, options.file)
    base_folder(options.model)
    found = columns(options, task, {}, options.file)
    classes = settled(Classes(options.num_labels, problem_type=options.problem_type)) if task.has_classes else None
    examples = read(task, options.file, found, classes)
    model = task.auto.from_pretrained(options.model)
    tokenizer = task.preparer(options.model, model)
    choose_form(options, task, found, model, tokenizer, options.file)
    most = length(task, options.max_length, None, model.config, tokenizer, task.length)
    rows = encoded(task, examples, tokenizer, most, options.file)
    names = {number: name for name, number in (examples.label2id or {}).items()}
    is_terminal = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for number, example in enumerate(examples_at(rows, range(min(options.examples, len(rows)))), start=1):
        label = example.get("label") if example.get("is_scored", True) else None
        parts = task.shown(example)
        size = "; ".join(map(_numbers, parts)) or " × ".join(map(str, np.shape(example["pixel_values"])))
        is_told = label is not None and (task.has_classes or np.ndim(label) == 0)  # not the places of an answer
        print(f"── example {number}: {size}" + (_label(label, names) if is_told else ""))
        for part in parts:
            print("".join(coloured(tokenizer, part) if is_terminal else marked(tokenizer, part)))
        if not parts:
            print("\n".join(drawn(example["pixel_values"], is_terminal)))
    if task.prepares_late:
        print(f"── {options.file}: {len(rows):,} examples")
        return
    counts = (_counts(part) for example in rows for part in task.shown(example))
    tokens, learnt = (sum(column) for column in zip(*counts, strict=True))
    print(f"── {options.file}: {len(rows):,} examples, {tokens:,} tokens, {learnt:,} of them learnt")


def _label(label: Any, names: Mapping[int, str]) -> str:
    """By its name where it has one; of several classes those that there are."""
    if np.ndim(label) == 0:
        return f", label {names.get(label, label)}"
    return f", labels {', '.join(str(names.get(i, i)) for i, is_there in enumerate(label) if is_there) or 'none'}"


def _counts(example: Example) -> tuple[int, int]:
    labels = example.get("labels", ())
    return len(example["input_ids"]), sum(label != IGNORED for label in labels)


def _numbers(example: Example) -> str:
    tokens, learnt = _counts(example)
    return f"{tokens:,} tokens" + (f", {learnt:,} learnt" if "labels" in example else "")


def marked(tokenizer: Tokenizer, example: Example) -> Iterator[str]:
    """The text, with ⟦ ⟧ around what is learnt of it."""
    for is_learnt, ids in _runs(example):
        text = tokenizer.decode(ids)
        yield f"⟦{text}⟧" if is_learnt else text


def coloured(tokenizer: Tokenizer, example: Example) -> Iterator[str]:
    """The text, each token in a colour."""
    shade = 0
    for is_learnt, ids in _runs(example):
        for text in _letters(tokenizer, ids):
            shade = 1 - shade
            yield f"{(_LEARNT if is_learnt else _READ)[shade]}{text}{_PLAIN}"


def _runs(example: Example) -> Iterator[tuple[bool, list[int]]]:
    """Tokens that stand together and are all learnt, or all not. An encoder's come first, then its decoder's."""
    ids, labels = list(example["input_ids"]), example.get("labels")
    if labels is None or len(labels) != len(ids):
        yield False, ids
        if labels is not None:
            yield True, [label for label in labels if label != IGNORED]
        return
    start = 0
    for i in range(1, len(ids) + 1):
        if i == len(ids) or (labels[i] != IGNORED) != (labels[start] != IGNORED):
            yield labels[start] != IGNORED, ids[start:i]
            start = i


def _letters(tokenizer: Any, ids: Sequence[int]) -> Iterator[str]:
    """What each token adds to the text; those that make up a letter together come together."""
    done = 0
    for i in range(1, len(ids) + 1):
        near = max(0, done - 4)  # a token alone may lose the space before it
        text, before = tokenizer.decode(ids[near:i]), tokenizer.decode(ids[near:done])
        if not text.endswith("�") or i == len(ids):
            yield text[len(before) :]
            done = i
