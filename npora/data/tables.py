"""Examples from files that name their columns: each example with where it stands."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from npora.data.dataset import Example
from npora.data.lines import Path, lines
from npora.files.json import STRICT
from npora.files.refusal import Refuse, raise_it, shortened

_FIELD = 2**31 - 1  # the csv module refuses longer fields, by default those of 131,072 characters
_DECODER = json.JSONDecoder(**STRICT)
_SPACE = " \t\r\n"


def tsv_examples(path: Path, columns: Sequence[str] = (), refuse: Refuse = raise_it) -> Iterator[tuple[str, Example]]:
    """Tab-separated values; quotes mean nothing."""
    whole = ((number, line) for number, line in lines(path, refuse) if line.strip(" \r\n"))
    values = ((number, line.rstrip("\r\n").split("\t")) for number, line in whole)
    return _named(os.fspath(path), values, columns, refuse)


def csv_examples(path: Path, columns: Sequence[str] = (), refuse: Refuse = raise_it) -> Iterator[tuple[str, Example]]:
    """Comma-separated values, with quotes around those that have commas, quotes or line ends."""
    return _named(os.fspath(path), _csv_values(path, refuse), columns, refuse)


def json_lines(path: Path, columns: Sequence[str] = (), refuse: Refuse = raise_it) -> Iterator[tuple[str, Example]]:
    """A JSON object a line."""
    for number, line in lines(path, refuse):
        if line.strip():
            where = f"{os.fspath(path)}, line {number}"
            try:
                example = _object(line.strip(_SPACE), columns, where)
            except ValueError as error:
                refuse(error)
                continue
            yield where, example


def _object(line: str, columns: Sequence[str], where: str) -> Example:
    value, end = _parsed(line, 0, where)
    if rest := line[end:].strip():
        raise ValueError(f"{where}: not JSON: there is more behind the object: {shortened(rest)}")
    return _checked(value, columns, where, ": a file with an array is named .json" if isinstance(value, list) else "")


def json_examples(path: Path, columns: Sequence[str] = (), refuse: Refuse = raise_it) -> Iterator[tuple[str, Example]]:
    """A JSON array of objects, an object that has one as its `data`, or objects one after another."""
    name = os.fspath(path)
    text = "".join(line for _, line in lines(path))
    start = _after_space(text, 0)
    if not text.startswith("[", start):
        objects = list(_several(text, start, name, ""))
        data = objects[0][1].get("data") if len(objects) == 1 and isinstance(objects[0][1], dict) else None
        if isinstance(data, list) and not any(column in objects[0][1] for column in columns):
            objects = [(f"{name}, element {i} of data", value) for i, value in enumerate(data, start=1)]
    else:
        objects = list(_several(text, start + 1, name, "]"))
    for where, value in objects:
        try:
            example = _checked(value, columns, where)
        except ValueError as error:
            refuse(error)
            continue
        yield where, example


def _several(text: str, at: int, name: str, close: str) -> Iterator[tuple[str, Any]]:
    """The values from `at` on: those of an array up to `close`, or all up to the end, with nothing between them."""
    line, counted, number, comma = 1, 0, 0, False
    at = _after_space(text, at)
    while at < len(text) and not (close and text[at] == close and not comma):
        number += 1
        line, counted = line + text.count("\n", counted, at), at
        where = f"{name}, line {line}" if not close else f"{name}, element {number} (line {line})"
        value, at = _parsed(text, at, where)
        yield where, value
        at = _after_space(text, at)
        comma = bool(close) and text.startswith(",", at)
        if comma:
            at = _after_space(text, at + 1)
        elif close and not text.startswith(close, at):
            raise ValueError(f"{where}: not JSON: the element ends, and neither a comma nor {close} follows it")
    if close and (at >= len(text) or text[at + 1 :].strip()):
        what = "the array is not closed" if at >= len(text) else "there is more behind the array"
        raise ValueError(f"{name}, line {1 + text.count(chr(10), 0, at)}: not JSON: {what}")


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _parsed(text: str, at: int, where: str) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except RecursionError:
        raise ValueError(f"{where}: not JSON that can be read: it is nested too deeply") from None
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" + f" of line {error.lineno}" * (error.lineno > 1)
        raise ValueError(f"{where}: not JSON: {error.msg}, at {place}") from None
    except ValueError as error:  # a key that stands twice, NaN, a number of thousands of digits
        raise ValueError(f"{where}: {error}") from None


def _checked(value: Any, columns: Sequence[str], where: str, hint: str = "") -> Example:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: a JSON object was expected, not {type(value).__name__}{hint}")
    _check_columns(list(value), columns, where)
    return value


def _csv_values(path: Path, refuse: Refuse) -> Iterator[tuple[int, list[str]]]:
    """The values of each example, and the line on which it begins."""
    limit = csv.field_size_limit(_FIELD)
    reader = csv.reader((line for _, line in lines(path, refuse)), strict=True)
    begins = 1
    try:
        while True:
            try:
                values = next(reader, None)
            except csv.Error as error:
                refuse(_of_a_csv(os.fspath(path), begins, reader.line_num, error))
                values = []
            if values is None:
                return
            if values:
                yield begins, values
            begins = reader.line_num + 1
    finally:
        csv.field_size_limit(limit)


def _of_a_csv(name: str, begins: int, line: int, error: csv.Error) -> ValueError:
    if "end of data" in str(error):
        return ValueError(f'{name}, line {begins}: a quote (") opens a value in this row and none closes it')
    return ValueError(f"{name}, line {line}: {error} (a quote inside a quoted value is written twice)")


def _named(
    name: str, examples: Iterator[tuple[int, list[str]]], columns: Sequence[str], refuse: Refuse
) -> Iterator[tuple[str, Example]]:
    first, header = next(examples, (1, []))
    hint = separator_hint(header) or " (the first line names the columns)"
    _check_columns(header, columns, f"{name}, line {first}", hint)
    for number, values in examples:
        if len(values) == 1 and len(header) != 1 and not values[0].strip():
            continue
        if len(values) != len(header):
            what = f"{len(values)} values, where the first line names {len(header)} columns"
            refuse(ValueError(f"{name}, line {number}: {what}"))
            continue
        yield f"{name}, line {number}", dict(zip(header, values, strict=True))


def _check_columns(found: Sequence[str], columns: Sequence[str], where: str, hint: str = "") -> None:
    for column in columns:
        if column not in found:
            raise ValueError(f"{where}: there is no column '{column}'; there are: {shortened_names(found)}{hint}")
    if len(set(found)) != len(found):
        raise ValueError(f"{where}: a column stands twice: {shortened_names(found)}")


def separator_hint(header: Sequence[str]) -> str:
    """Say so where a table's one column looks like several, which another sign separates."""
    found = [sign for sign in ("\t", ";", ",", "|") if len(header) == 1 and sign in header[0]]
    return f" ({found[0]!r} stands in it: values are separated by tabs in a .tsv, by commas in a .csv)" if found else ""


def shortened_names(names: Sequence[str]) -> str:
    return ", ".join(name if len(name) <= 60 else f"{name[:59]}…" for name in names[:20]) or "none"
