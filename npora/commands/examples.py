"""From a file to what a model is given: which columns are read, where texts are cut, and that this is said."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from npora.commands.embeddings import recognise
from npora.commands.messages import say
from npora.commands.tasks import TASKS, Classes, Columns, Task, is_plain
from npora.data import Dataset, Tokenizer
from npora.data.chats import usual_columns
from npora.data.dataset import Example
from npora.data.readers import table_examples
from npora.train.progress import Progress

_COLUMNS = {
    "text_column": "text", "text_pair_column": "text_pair", "label_column": "label", "prompt_column": "prompt",
    "rejected_column": "rejected", "negative_column": "negative", "sample_by": "sample_by",
}  # fmt: skip


def add_columns(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--text-column", metavar="NAME", help="the column of the text (default: sentence; of causal-lm else messages, "
        "conversations, completion or chosen with prompt, text). A text may be a list of messages, of which the "
        "assistant's are learnt. token-classification: of the words, default: tokens; dpo, orpo: of the answer that "
        "was chosen, default: chosen")  # fmt: skip
    add("--text-pair-column", metavar="NAME", help="classification: the column of a second text, for pairs; "
        "embedding: of the text that is like the first")  # fmt: skip
    add("--negative-column", metavar="NAME", help="embedding: the column of a text that is not like the first")
    add("--label-column", metavar="NAME", help="classification: the column of the class, a number 0, 1, … or a name "
        "(default: label); token-classification: of the words' tags (default: tags); embedding: how "
        "alike the texts are, a number")  # fmt: skip
    add("--prompt-column", metavar="NAME", help="causal-lm: the column of what stands before the text, and is not "
        "learnt; seq2seq-lm: of what the encoder reads (default: prompt); dpo, orpo: of what both answers answer "
        "(default: prompt)")  # fmt: skip
    add("--rejected-column", metavar="NAME", help="dpo, orpo: the column of the answer that was not chosen (default: "
        "rejected)")  # fmt: skip
    add("--sample-by", choices=["line", "paragraph", "document"], help="causal-lm: what is a text in a .txt file "
        "(default: line)")  # fmt: skip


def columns(options: argparse.Namespace, task: Task, notes: Mapping[str, Any], path: str) -> Columns:
    """The columns that the options name, else those that the adapter was trained on, else the usual ones: of causal-lm
    those of the file at `path` that hold conversations or texts, where it has no column sentence.

    Raises
    ------
    ValueError: the file is broken where it begins, or holds preferences, and no task is named.
    """
    named = {field: getattr(options, name) for name, field in _COLUMNS.items()}
    noted = notes.get("columns") or {}
    if task.name == "embedding" and noted.get("text") not in _first(path):
        noted = {}  # those of a file of another kind, as a model of embeddings is measured on
    chosen = {field: value if value is not None else noted.get(field) for field, value in named.items()}
    if task.name == "seq2seq-lm" and chosen["prompt"] is None:
        chosen["prompt"] = "prompt"
    if task.name == "token-classification":
        chosen["text"], chosen["label"] = chosen["text"] or "tokens", chosen["label"] or "tags"
    chosen["conversational"] = noted.get("conversational")
    if not is_plain(path) and not noted:
        first = _first(path)
        if getattr(options, "task", None) and "task" not in options.given and chosen["text"] is None:
            _refuse_unnamed(first, path)
        if task.name == "causal-lm":
            _recognise(chosen, first, path)
        if task.name in ("dpo", "orpo"):
            _recognise_preferences(chosen, first)
        if task.name == "embedding":
            recognise(chosen, first, path)
    return Columns(**{field: value for field, value in chosen.items() if value is not None})


def _first(path: str) -> Mapping[str, Any]:
    """The first example of a file."""
    return next((example for _, example in table_examples(path, (), lambda error: None)), {})


def _refuse_unnamed(first: Mapping[str, Any], path: str) -> None:
    if {"chosen", "rejected"} <= first.keys():
        raise ValueError(
            f"{path} has preferences, the columns chosen and rejected: --task dpo or --task orpo learns from both, and "
            "--task causal-lm from chosen alone"
        )


def _recognise_preferences(chosen: dict[str, Any], first: Mapping[str, Any]) -> None:
    """Fill in which columns hold the prompt and both answers, and whether they are messages."""
    chosen["text"], chosen["rejected"] = chosen["text"] or "chosen", chosen["rejected"] or "rejected"
    columns = [chosen["prompt"] or "prompt", chosen["text"], chosen["rejected"]]
    chosen["conversational"] = any(isinstance(first.get(column), list) for column in columns) or None
    if columns[0] in first or not chosen["conversational"]:
        chosen["prompt"] = columns[0]


def _recognise(chosen: dict[str, Any], first: Mapping[str, Any], path: str) -> None:
    """Fill in which columns hold what, by the first example of the file."""
    if chosen["text"] is None and chosen["prompt"] is None and Columns.text not in first:
        chosen["text"], chosen["prompt"] = usual_columns(list(first))
        if chosen["text"] is not None:
            prompt = f"what stands before it in {chosen['prompt']!r}" if chosen["prompt"] else "no prompt"
            passed = "; rejected is not looked at (--task dpo and orpo do)" if "rejected" in first else ""
            say(f"{path}: the text is in the column {chosen['text']!r}, {prompt}{passed}")
    text = chosen["text"] or Columns.text
    chosen["conversational"] = text in ("messages", "conversations") or isinstance(first.get(text), list) or None


def read(task: Task, path: str, columns: Columns, classes: Classes | None = None) -> Dataset:
    """The examples of a file. Raises ValueError where there are none, and as the task's reader."""
    progress = Progress(None, "example")
    try:
        examples = task.read(path, columns, classes, progress=progress.step)
    finally:
        progress.close()
    if not examples:
        raise ValueError(f"{path} has no examples")
    return examples


def refuse_idle_options(options: argparse.Namespace, task: Task, *paths: str | None) -> None:
    """Raise ValueError for an option that would be passed over: another task understands it, or other files."""
    plain = [path for path in paths if path is not None and is_plain(path)]
    if plain and "text_column" in options.given:
        raise ValueError(f"--text-column: {plain[0]} has no columns")
    if not plain and task.name == "causal-lm" and "sample_by" in options.given:
        raise ValueError(f"--sample-by is for .txt files, and {paths[0]} is none")
    for name in sorted(frozenset.union(*(other.options for other in TASKS.values())) & options.given - task.options):
        tasks = " or ".join(f"--task {other.name}" for other in TASKS.values() if name in other.options)
        raise ValueError(f"--{name.replace('_', '-')} needs {tasks}; this is {task.name}")


def length(
    asked: int | None, noted: int | None, config: Any, tokenizer: Tokenizer, usual: int | None = None
) -> int | None:
    """The most tokens of an example: what is asked for, else what the adapter was trained with, else `usual` where the
    model takes so many, else what it takes.

    Raises
    ------
    ValueError: the model does not take so many.
    """
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
    if length is None or len(parts) > 1 or not any(len(v) >= length for v in parts[0].values() if isinstance(v, list)):
        return False
    (whole,) = task.encode(example, tokenizer, None)
    return any(len(whole[name]) > len(value) for name, value in parts[0].items() if isinstance(value, list))


def say_cut(cut: int, examples: int, length: int | None, what: str) -> None:
    if cut:
        say(
            f"{what}: {cut:,} of {examples:,} examples have more than {length} tokens and were cut to that "
            "(--max-length)"
        )
