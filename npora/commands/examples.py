"""From a file to what a model is given: which columns are read, where texts are cut, and that this is said."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from npora.commands.messages import say
from npora.commands.tasks import TASKS, Classes, Columns, Task, is_plain
from npora.data import Dataset, Tokenizer
from npora.data.dataset import Example
from npora.data.readers import table_examples
from npora.train.progress import Progress

_COLUMNS = {
    "text_column": "text", "text_pair_column": "text_pair", "label_column": "label", "prompt_column": "prompt",
    "rejected_column": "rejected", "negative_column": "negative", "sample_by": "sample_by",
    "choices_column": "choices",
}  # fmt: skip
_LOOKED_AT = 1000  # examples, for the names of columns


def add_columns(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--text-column", metavar="NAME", help="the column of the text (default: sentence, else a usual name: text; of "
        "causal-lm also messages, conversations, completion or chosen with prompt). A text may be a list of messages, "
        "of which the assistant's are learnt. token-classification: of the words (default: tokens or words); "
        "multiple-choice: of the question (default: question or sent1); question-answering: of the question (default: "
        "question); dpo, orpo: of the answer that was chosen "
        "(default: chosen)")  # fmt: skip
    add("--text-pair-column", metavar="NAME", help="classification: the column of a second text, for pairs (sentence1 "
        "and sentence2, premise and hypothesis and the like are found); embedding: of the text "
        "that is like the first; question-answering: of the text that is asked (default: context)")  # fmt: skip
    add("--negative-column", metavar="NAME", help="embedding: the column of a text that is not like the first")
    add("--label-column", metavar="NAME", help="classification: the column of the class, a number 0, 1, … or a name "
        "(default: label or labels); token-classification: of the words' tags (default: tags or ner_tags); "
        "multiple-choice: of the number of the right choice, from 0 (default: label); question-answering: of the "
        "answers, their texts and where they begin (default: answers); embedding: how alike the texts "
        "are, a number")  # fmt: skip
    add("--choices-column", metavar="NAME", help="multiple-choice: the column of a list of texts (default: choices, or "
        "a column for each, choice0, … or SWAG's ending0, … behind sent2)")  # fmt: skip
    add("--prompt-column", metavar="NAME", help="causal-lm: the column of what stands before the text, and is not "
        "learnt; seq2seq-lm: of what the encoder reads (default: prompt); dpo, orpo: of what both answers answer "
        "(default: prompt)")  # fmt: skip
    add("--rejected-column", metavar="NAME", help="dpo, orpo: the column of the answer that was not chosen (default: "
        "rejected)")  # fmt: skip
    add("--sample-by", choices=["line", "paragraph", "document"], help="causal-lm: what is a text in a .txt file "
        "(default: line)")  # fmt: skip


def columns(options: argparse.Namespace, task: Task, notes: Mapping[str, Any], path: str) -> Columns:
    """The columns that the options name, else those that the adapter was trained on, else those of the file at `path`
    that have usual names: of causal-lm those that hold conversations or texts, where it has no column sentence.

    Raises
    ------
    ValueError: the file is broken where it begins; no column has such a name; it holds preferences, and no task is
    named.
    """
    named = {field: getattr(options, name) for name, field in _COLUMNS.items()}
    noted = notes.get("columns") or {}
    left = {field: value for field, value in noted.items() if named.get(field) is None}
    if task.is_measured_otherwise and left and not task.learns_from(_first(path), left):
        noted = {}
    chosen = {field: value if value is not None else noted.get(field) for field, value in named.items()}
    chosen["conversational"] = noted.get("conversational")
    if task.has_columns and not is_plain(path) and "text" not in noted:
        first = _first(path)
        if getattr(options, "task", None) and "task" not in options.given and chosen["text"] is None:
            _refuse_unnamed(first, path)
        task.find_columns(chosen, first, path)
    return Columns(**{field: value for field, value in chosen.items() if value is not None})


def columns_measured(task: Task, learnt: Columns, train: str, path: str) -> Columns:
    """The columns of a file that is measured: those of the one that is learnt, `train`, or its own where that has none,
    or the task is measured on others. Raises ValueError where no column has a usual name."""
    if is_plain(path) or not (task.is_measured_otherwise or is_plain(train)):
        return learnt
    first = _first(path)
    if not is_plain(train) and task.learns_from(first, asdict(learnt)):
        return learnt
    chosen: dict[str, Any] = dict.fromkeys(_COLUMNS.values())
    task.find_columns(chosen, first, path)
    return Columns(**{field: value for field, value in chosen.items() if value is not None})


def _first(path: str) -> Example:
    """The first example of a file, with what it lacks of the columns that one of the next thousand has."""
    found: Example = {}
    for _, example in itertools.islice(table_examples(path, (), lambda error: None), _LOOKED_AT):
        found = {**example, **found}
    return found


def _refuse_unnamed(first: Mapping[str, Any], path: str) -> None:
    if {"chosen", "rejected"} <= first.keys():
        raise ValueError(
            f"{path} has preferences, the columns chosen and rejected: --task dpo or --task orpo learns from both, and "
            "--task causal-lm from chosen alone"
        )


def read(task: Task, path: str, columns: Columns, classes: Classes | None = None) -> Dataset:
    """The examples of a file. Raises ValueError where there are none, and as the task's reader."""
    progress = Progress(None, "example")
    try:
        examples = task.read(path, columns, classes, progress=progress.step)
    except ValueError:
        if not task.has_columns or is_plain(path) or next(table_examples(path), None) is not None:
            raise
        raise ValueError(f"{path} has no examples") from None  # whatever its columns are
    finally:
        progress.close()
    if not examples:
        raise ValueError(f"{path} has no examples")
    return examples


def refuse_idle_options(options: argparse.Namespace, task: Task, *paths: str | None) -> None:
    """Raise ValueError for an option that would be passed over: another task understands it, or other files."""
    if given := task.refused & options.given:
        raise ValueError(f"--{min(given).replace('_', '-')} is for texts; this is {task.name}")
    if "cache" in options.given and not task.has_cache:
        raise ValueError(f"--cache keeps a list of tokens for each example, and {task.name} has several: leave it out")
    plain = [path for path in paths if path is not None and is_plain(path)]
    if plain and "text_column" in options.given:
        raise ValueError(f"--text-column: {plain[0]} has no columns")
    if not plain and "sample_by" in options.given & task.options:
        raise ValueError(f"--sample-by is for .txt files, and {paths[0]} is none")
    for name in sorted(frozenset.union(*(other.options for other in TASKS.values())) & options.given - task.options):
        tasks = " or ".join(f"--task {other.name}" for other in TASKS.values() if name in other.options)
        raise ValueError(f"--{name.replace('_', '-')} needs {tasks}; this is {task.name}")


def length(
    task: Task, asked: int | None, noted: int | None, config: Any, tokenizer: Tokenizer, usual: int | None = None
) -> int | None:
    """The most tokens of an example: what is asked for, else what the adapter was trained with, else `usual` where the
    model takes so many, else what it takes. None of images, which have no tokens.

    Raises
    ------
    ValueError: the model does not take so many, or none.
    """
    if task.length is None:
        if asked is not None:
            raise ValueError(f"--max-length is for texts; this is {task.name}")
        return None
    limits = [limit for limit in (config.named_length, tokenizer.model_max_length) if limit is not None]
    named = min(limits, default=None)
    if asked is not None:
        if asked < 1:
            raise ValueError(f"--max-length must be at least 1; got {asked}")
        if (most := config.most_tokens) is not None and asked > most:
            raise ValueError(f"--max-length {asked}: this model takes at most {most} tokens")
        if named is not None and asked > named:
            say(f"--max-length {asked}: the checkpoint names {named} as the most tokens of a text")
        if noted is not None and asked != noted:
            say(f"--max-length {asked}: the adapter was trained with {noted}")
        return asked
    if noted is not None:
        return noted
    return min((limit for limit in (named, usual) if limit is not None), default=None)


def is_cut(task: Task, example: Example, parts: Sequence[Example], tokenizer: Tokenizer, length: int | None) -> bool:
    """Whether tokens of an example are missing from its parts. Only a full example can lack any, and is encoded once
    more."""
    if length is None or len(parts) > 1 or not any(n >= length for own in _lengths(parts[0]).values() for n in own):
        return False
    (whole,) = task.encode(example, tokenizer, None)
    return _lengths(whole) != _lengths(parts[0])


def _lengths(encoded: Example) -> dict[str, list[int]]:
    """Of each list, or of each choice's."""
    lists = {name: value for name, value in encoded.items() if isinstance(value, list)}
    return {
        name: [len(choice) for choice in value] if value and isinstance(value[0], list) else [len(value)]
        for name, value in lists.items()
    }


def say_cut(cut: int, examples: int, length: int | None, what: str) -> None:
    if cut:
        say(
            f"{what}: {cut:,} of {examples:,} examples have more than {length} tokens and were cut to that "
            "(--max-length)"
        )
