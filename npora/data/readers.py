"""Examples from TSV, CSV, JSON and plain text. What is wrong in a file is an error that names its line."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from npora.data.columns import Columns
from npora.data.dataset import Dataset, Example
from npora.data.labels import Labels
from npora.data.lines import Path, lines
from npora.data.strings import Strings
from npora.data.tables import csv_examples, json_examples, json_lines, tsv_examples
from npora.data.texts import has_surrogates
from npora.files.refusal import Refuse, raise_it, shortened

_FORMATS = {
    ".tsv": tsv_examples,
    ".csv": csv_examples,
    ".jsonl": json_lines,
    ".ndjson": json_lines,
    ".json": json_examples,
}
_SAMPLES = ("line", "paragraph", "document")
_TOLD = 4096  # examples, from one time that progress is told to the next
Told = Callable[[int], None]
_Item = TypeVar("_Item")


def read_tsv(path: Path, columns: Sequence[str] = ()) -> Dataset:
    """A file of tab-separated values, as GLUE's: the first line names the columns, quotes mean nothing.

    Empty lines are skipped. columns : those that must be there. All values are strings.

    Raises
    ------
    FileNotFoundError; ValueError: a missing column, a line with more or fewer values than the first, text that is not
    UTF-8, each with its line.
    """
    return Dataset(example for _, example in tsv_examples(path, columns))


def read_csv(path: Path, columns: Sequence[str] = ()) -> Dataset:
    """A file of comma-separated values with quotes; the first line names the columns. Otherwise as read_tsv."""
    return Dataset(example for _, example in csv_examples(path, columns))


def read_jsonl(path: Path, columns: Sequence[str] = ()) -> Dataset:
    """One JSON object a line; empty lines are skipped. Raises as read_tsv, and for a key that stands twice."""
    return Dataset(example for _, example in json_lines(path, columns))


def read_json(path: Path, columns: Sequence[str] = ()) -> Dataset:
    """A JSON array of objects, an object whose `data` is one, or objects one after another. Raises as read_jsonl."""
    return Dataset(example for _, example in json_examples(path, columns))


def read_examples(
    path: Path,
    text_column: str,
    label_column: str | None,
    num_labels: int | None = None,
    *,
    pair_column: str | None = None,
    negative_column: str | None = None,
    label2id: Mapping[str, int] | None = None,
    problem_type: str | None = None,
    refuse: Refuse = raise_it,
    progress: Told | None = None,
) -> Dataset:
    """Examples of `text`, `text_pair` and `negative` where their columns are named, and `label`, from a .tsv, .csv,
    .json or .jsonl file.

    A file whose name ends in .gz besides is unpacked. A text may be empty; a value that is no string is an error.

    label_column : None where there are no labels, or none are to be read
    num_labels : how many classes there are: a label is one of 0 … v − 1. 1 means regression, as in transformers
    label2id : the classes' numbers by their names, as a model's config or an earlier file gives them. Without it names
        are numbered in sorted order, and the dataset has the mapping as its `label2id`
    problem_type : "regression" for labels that are numbers, "multi_label_classification" for JSON lists of 0 and 1, one
        for each class, or of names; both become floats
    refuse : is given the error of each example that cannot be used, and of each label; where it returns, the examples
        that it was told of are left out, and labels that are not all good are None
    progress : is told how many are read, each few thousand

    Raises
    ------
    ValueError: as the readers, and for a label that is none of these, with its line.
    """
    named_texts = {"text": text_column, "text_pair": pair_column, "negative": negative_column}
    columns = {name: column for name, column in named_texts.items() if column is not None}
    labels = Labels(num_labels, label2id, problem_type)
    found: dict[str, Any] = {name: Strings() for name in columns}
    named = [*columns.values()] + ([] if label_column is None else [label_column])
    for where, example in watched(table_examples(path, named, refuse), progress):
        try:
            texts = [text_of_column(example, column, where) for column in columns.values()]
        except ValueError as error:
            refuse(error)
            continue
        for column, text in zip(found.values(), texts, strict=True):
            column.append(text)
        if label_column is not None:
            labels.add(example[label_column], where)
    if label_column is not None:
        try:
            found["label"] = labels.numbers()
        except ValueError:
            for fault in labels.faults():
                refuse(ValueError(fault))
            found["label"] = [None] * len(found["text"])
    dataset = Dataset(Columns(found, where=partial(where_in, path, "line")))
    dataset.label2id = labels.label2id
    return dataset


def read_texts(
    path: Path,
    text_column: str,
    prompt_column: str | None = None,
    sample_by: str = "line",
    refuse: Refuse = raise_it,
    progress: Told | None = None,
) -> Dataset:
    """Examples of `text`, and of `prompt` where its column is named, from a .tsv, .csv, .json, .jsonl or .txt file.

    A .txt file has no columns. By default each of its lines is a text, without those that are empty, as
    `datasets.load_dataset("text")` has it; text_column is not looked at.

    sample_by : of a .txt file: "line", "paragraph" (what empty lines separate) or "document" (all of it)
    refuse, progress : as in read_examples

    Raises
    ------
    ValueError: as the readers, and for a value that is no string, with its line.
    """
    if sample_by not in _SAMPLES:
        raise ValueError(f"sample_by must be 'line', 'paragraph' or 'document'; got {sample_by!r}")
    if _suffix(path) == ".txt":
        if prompt_column is not None:
            raise ValueError(f"{os.fspath(path)}: a .txt file has no columns, and so no {prompt_column!r}")
        texts = ({"text": text} for _, text in watched(_plain(path, sample_by, refuse), progress))
        return _texts(texts, where=partial(where_in, path, sample_by))
    if sample_by != "line":
        raise ValueError(f"{os.fspath(path)}: sample_by={sample_by!r} is for .txt files")
    columns = {"text": text_column} if prompt_column is None else {"prompt": prompt_column, "text": text_column}
    found = _columns(watched(table_examples(path, [*columns.values()], refuse), progress), columns, refuse)
    return _texts(found, columns, where=partial(where_in, path, "line"))


def watched(found: Iterable[_Item], progress: Told | None) -> Iterator[_Item]:
    """The same items, of whose number somebody is told now and then."""
    for number, item in enumerate(found):
        if progress is not None and number % _TOLD == 0 and number:
            progress(number)
        yield item


def _columns(
    examples: Iterable[tuple[str, Example]], columns: Mapping[str, str], refuse: Refuse
) -> Iterator[dict[str, str]]:
    for where, example in examples:
        try:
            texts = {name: text_of_column(example, column, where) for name, column in columns.items()}
        except ValueError as error:
            refuse(error)
            continue
        yield texts


def where_in(path: Path, sample_by: str, number: int) -> str:
    """Where the example of this number stands in a file that was read without an error: it is read once more."""
    rest = _plain(path, sample_by, raise_it) if _suffix(path) == ".txt" else table_examples(path)
    return next(itertools.islice((where for where, _ in rest), number, None), os.fspath(path))


def _texts(
    examples: Iterable[Mapping[str, str]], names: Iterable[str] = ("text",), *, where: Callable[[int], str]
) -> Dataset:
    found = {name: Strings() for name in names}
    for example in examples:
        for name, column in found.items():
            column.append(example[name])
    return Dataset(Columns(found, where=where))


def _suffix(path: Path) -> str:
    name = os.fspath(path).lower()
    return os.path.splitext(name.removesuffix(".gz"))[1]


def table_examples(path: Path, columns: Sequence[str] = (), refuse: Refuse = raise_it) -> Iterator[tuple[str, Example]]:
    """The examples of a file and where they stand, read as the ending of its name says."""
    if _suffix(path) not in _FORMATS:
        if os.path.isdir(path):
            raise IsADirectoryError(f"{os.fspath(path)} is a directory; pass a file of examples")
        raise ValueError(
            f"{os.fspath(path)}: a file of examples ends in .tsv, .csv, .json or .jsonl (or .gz after that)"
        )
    return _FORMATS[_suffix(path)](path, columns, refuse)


def text_of_column(example: Example, column: str, where: str) -> str:
    """The value of a column. Raises ValueError where it is no string of whole characters."""
    value = example[column]
    if not isinstance(value, str):
        raise ValueError(f"{where}: {column} must be a string; got {shortened(value)}")
    if has_surrogates(value):
        raise ValueError(
            f"{where}: {column} has half of a pair of surrogates, which is no character: {shortened(value)}"
        )
    return value


def _plain(path: Path, sample_by: str, refuse: Refuse) -> Iterator[tuple[str, str]]:
    """The texts, and the line on which each begins."""
    name = os.fspath(path)
    if sample_by == "document":
        whole = "".join(line for _, line in lines(path, refuse))
        yield from [(f"{name}, line 1", whole)] if whole.strip() else []
        return
    paragraph: list[str] = []
    begins = 0
    for number, line in itertools.chain(lines(path, refuse), [(0, "")]):
        if line.strip():
            begins = begins if paragraph else number
            paragraph.append(line)
        if paragraph and (sample_by == "line" or not line.strip()):
            yield f"{name}, line {begins}", "".join(paragraph).rstrip("\r\n")
            paragraph = []
