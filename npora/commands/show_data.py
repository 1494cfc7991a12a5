"""Show what finetune would learn of a file: the tokens of a few examples, those that are learnt marked.

On a terminal learnt tokens are green and the others grey, in two shades that alternate from token to token; elsewhere
⟦ ⟧ stand around what is learnt. Of preferences the prompt stands with the chosen answer first, and then with the
rejected one. Below all are the numbers of the file. A file of which nothing is learnt is refused, as
finetune refuses it.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from npora.commands.chats import add_chat_template, choose_form
from npora.commands.encoding import encoded
from npora.commands.examples import add_columns, columns, length, read, refuse_idle_options
from npora.commands.loading import base_folder
from npora.commands.tasks import TASKS
from npora.data import Tokenizer
from npora.data.collate import IGNORED
from npora.data.columns import examples_at
from npora.data.dataset import Example

_LEARNT, _READ = ("\033[1;32m", "\033[32m"), ("\033[90m", "\033[37m")
_PLAIN = "\033[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", required=True, metavar="DIR", help="whose tokenizer, template and length are taken: a directory, or "
        "org/name on the hub")  # fmt: skip
    shown = [name for name, task in TASKS.items() if task.is_shown]
    add("--task", default="causal-lm", choices=shown, help="what is learnt")
    add_columns(parser)
    add_chat_template(parser)
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
    examples = read(task, options.file, found)
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
        print(
            f"── example {number}: {'; '.join(map(_numbers, parts))}"
            + ("" if label is None else f", label {names.get(label, label)}")
        )
        for part in parts:
            print("".join(coloured(tokenizer, part) if is_terminal else marked(tokenizer, part)))
    counts = (_counts(part) for example in rows for part in task.shown(example))
    tokens, learnt = (sum(column) for column in zip(*counts, strict=True))
    print(f"── {options.file}: {len(rows):,} examples, {tokens:,} tokens, {learnt:,} of them learnt")


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
