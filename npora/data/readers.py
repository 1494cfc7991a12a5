"""Rows from TSV, CSV and JSON lines. What is wrong in a file is an error that names its line."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from npora.data.dataset import Dataset, Row

Path = str | os.PathLike[str]


def read_tsv(path: Path, columns: Sequence[str] = ()) -> Dataset:
    """A file of tab-separated values, as GLUE's: the first line names the columns, quotes mean nothing.

    columns : those that must be there. All values are strings.

    Raises
    ------
    FileNotFoundError; ValueError: a missing column, a line with more or fewer values than the first, text that is not
    UTF-8, each with its line.
    """
    return Dataset(row for _, row in _delimited(path, columns, delimiter="\t", quoting=csv.QUOTE_NONE))


def read_csv(path: Path, columns: Sequence[str] = ()) -> Dataset:
    """A file of comma-separated values with quotes; the first line names the columns. Otherwise as read_tsv."""
    return Dataset(row for _, row in _delimited(path, columns, strict=True))


def read_jsonl(path: Path, columns: Sequence[str] = ()) -> Dataset:
    """One JSON object a line; empty lines are skipped. Raises as read_tsv."""
    return Dataset(row for _, row in _json_lines(path, columns))


def read_examples(path: Path, text_column: str, label_column: str, num_labels: int | None = None) -> Dataset:
    """Rows of `text` and `label` from a .tsv, .csv or .jsonl file. With `num_labels` a label is a class, 0 … v − 1.

    Raises
    ------
    ValueError: as the readers, and for a label that is no whole number or out of range, with its line.
    """
    return Dataset(
        {"text": row[text_column], "label": _label(row[label_column], num_labels, f"{os.fspath(path)}, line {line}")}
        for line, row in _rows(path, (text_column, label_column))
    )


def read_texts(path: Path, text_column: str, prompt_column: str | None = None) -> Dataset:
    """Rows of `text`, and of `prompt` where its column is named, from a .tsv, .csv or .jsonl file.

    Raises
    ------
    ValueError: as the readers, and for a value that is no string, with its line.
    """
    columns = {"text": text_column} if prompt_column is None else {"prompt": prompt_column, "text": text_column}
    rows = []
    for line, row in _rows(path, tuple(columns.values())):
        for column in columns.values():
            if not isinstance(row[column], str):
                raise ValueError(f"{os.fspath(path)}, line {line}: {column} must be a string; got {row[column]!r}")
        rows.append({name: row[column] for name, column in columns.items()})
    return Dataset(rows)


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """The rows of a file and their lines, read as the ending of its name says."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix == ".tsv":
        return _delimited(path, columns, delimiter="\t", quoting=csv.QUOTE_NONE)
    if suffix == ".csv":
        return _delimited(path, columns, strict=True)
    if suffix in (".jsonl", ".json"):
        return _json_lines(path, columns)
    raise ValueError(f"{os.fspath(path)}: a file of examples ends in .tsv, .csv or .jsonl")


def _label(value: Any, num_labels: int | None, where: str) -> int:
    try:
        label = int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: the label {value!r} is not a whole number") from None
    if label < 0 or (num_labels is not None and label >= num_labels):
        most = "" if num_labels is None else f" … {num_labels - 1}"
        raise ValueError(f"{where}: the label {label} is out of range; labels are 0{most}")
    return label


def _delimited(path: Path, columns: Sequence[str], **dialect: Any) -> Iterator[tuple[int, Row]]:
    name = os.fspath(path)
    with _open(path) as file:
        reader = csv.reader(file, **dialect)
        try:
            header = next(reader, [])
            _check_columns(header, columns, f"{name}, line 1")
            for values in reader:
                if len(values) != len(header):
                    raise ValueError(
                        f"{name}, line {reader.line_num}: {len(values)} values, where the first line names "
                        f"{len(header)} columns"
                    )
                yield reader.line_num, dict(zip(header, values, strict=True))
        except csv.Error as error:
            raise ValueError(f"{name}, line {reader.line_num}: {error}") from None
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}, after line {reader.line_num}: not UTF-8 ({error.reason})") from None


def _json_lines(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    name = os.fspath(path)
    with _open(path) as file:
        for number, line in enumerate(_lines(file, name), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{name}, line {number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{name}, line {number}: a JSON object was expected, not {type(row).__name__}")
            _check_columns(list(row), columns, f"{name}, line {number}")
            yield number, row


def _lines(file: Any, name: str) -> Iterator[str]:
    try:
        yield from file
    except UnicodeDecodeError as error:
        raise ValueError(f"{name}: not UTF-8 ({error.reason} at byte {error.start} of a block)") from None


def _check_columns(found: Sequence[str], columns: Sequence[str], where: str) -> None:
    for column in columns:
        if column not in found:
            raise ValueError(f"{where}: there is no column '{column}'; there are: {', '.join(found) or 'none'}")
    if len(set(found)) != len(found):
        raise ValueError(f"{where}: a column stands twice: {', '.join(found)}")


def _open(path: Path) -> Any:
    try:
        return open(path, encoding="utf-8-sig", newline="")
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {os.fspath(path)}") from None
