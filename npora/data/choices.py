"""Examples of several texts of which one is right: from files, as tokens, and as batches."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from npora.data.collate import IGNORED, LABELS, collate
from npora.data.columns import unpacked
from npora.data.dataset import Dataset, Example
from npora.data.lines import Path
from npora.data.readers import Told, table_examples, watched, where_in
from npora.data.strings import Strings
from npora.data.texts import has_surrogates
from npora.data.tokenizer import Tokenizer
from npora.files.refusal import Refuse, raise_it, shortened
from npora.nn.module import Array

_TEXTS = ("question", "sent1")  # the columns of a question, or of the sentence that is to be continued
_STEMS = ("ending", "choice")  # of columns with a number behind, one for each choice
_START = "sent2"  # with which every ending begins, where there is such a column


def read_choices(
    path: Path,
    text_column: str | None = None,
    choices_column: str | None = None,
    label_column: str = "label",
    refuse: Refuse = raise_it,
    progress: Told | None = None,
) -> Dataset:
    """Examples of `text`, `choices`, a list of strings, and `label`, the number of the right one, from 0.

    text_column : question or sent1 unless given
    choices_column : a list, in a .json or .jsonl file: choices unless given. A file without it, as a .tsv, has a column
        for each choice, ending0, ending1, … or choice0, choice1, …; SWAG's sent2 stands before each ending then
    refuse : is given the error of each example that cannot be used; where it returns, the example is left out
    progress : is told how many are read, each few thousand

    Raises
    ------
    ValueError: as the readers; no such columns; choices that are no strings, fewer than two, or in another number than
    those of the first example; a label that is none of their numbers. The message has the line.
    """
    packed, count = Strings(), 0
    for where, example in watched(table_examples(path, [label_column], refuse), progress):
        try:
            text = _string(example, _named(example, text_column, _TEXTS, where), where)
            choices = _choices(example, choices_column, where)
            count = count or len(choices)
            if len(choices) != count:
                raise ValueError(f"{where}: there are {len(choices)} choices, and {count} in the first example")
            own = {"text": text, "choices": choices, "label": _number(example[label_column], count, where)}
        except ValueError as error:
            refuse(error)
            continue
        packed.append(json.dumps(own, ensure_ascii=False))
    return Dataset(unpacked(packed, ["text", "choices", "label"], partial(where_in, path, "line")))


def encode_choices(tokenizer: Tokenizer, example: Example, max_length: int | None = None) -> Example:
    """The tokens of an example: of each choice those of the text and of the choice, as a pair."""
    texts = [example["text"]] * len(example["choices"])
    encoded = tokenizer(texts, list(example["choices"]), truncation=max_length is not None, max_length=max_length)
    own: Example = {name: list(values) for name, values in encoded.items()}
    return {**own, "label": example["label"]} if "label" in example else own


def collate_choices(
    examples: Sequence[Mapping[str, Any]],
    names: Collection[str],
    pad_token_id: int = 0,
    numbers: Sequence[int] | None = None,
) -> dict[str, Array]:
    """The batch of examples whose input_ids, attention_mask, … are lists of a list for each choice: arrays [b,c,t],
    padded to the longest choice of all, and labels [b].

    Raises
    ------
    ValueError: as collate; an example without such a list, or with another number of choices than the first.
    """
    numbers = range(len(examples)) if numbers is None else numbers
    count, flat, flat_numbers = 0, [], []
    for example, number in zip(examples, numbers, strict=True):
        ids = example.get("input_ids")
        if not isinstance(ids, Sequence) or not all(isinstance(choice, Sequence) for choice in ids):
            raise ValueError(f"example {number}: input_ids must be a list of ids for each choice; got {shortened(ids)}")
        count = count or len(ids)
        if len(ids) != count:
            raise ValueError(f"example {number} has {len(ids)} choices, and example {numbers[0]} {count}")
        for i in range(count):
            of_each = {k: v[i] for k, v in example.items() if k not in LABELS and k in names and v is not None}
            flat.append({**of_each, **{k: example[k] for k in LABELS if k in example}})
            flat_numbers.append(number)
    batch = collate(flat, names, pad_token_id, flat_numbers)
    return {
        name: array[::count] if name == "labels" else array.reshape(-1, count, *array.shape[1:])  # [b·c,t] → [b,c,t]
        for name, array in batch.items()
    }


def _named(example: Example, asked: str | None, usual: Sequence[str], where: str) -> str:
    found = next((name for name in usual if name in example), usual[0]) if asked is None else asked
    if found not in example:
        raise ValueError(f"{where}: there is no column {found!r}; there are: {', '.join(example)}")
    return found


def _choices(example: Example, asked: str | None, where: str) -> list[str]:
    if asked is None and "choices" not in example:
        for stem in _STEMS:
            names: list[str] = []
            while f"{stem}{len(names)}" in example:
                names.append(f"{stem}{len(names)}")
            if len(names) > 1:
                start = _string(example, _START, where) + " " if stem == "ending" and _START in example else ""
                return [start + _string(example, name, where) for name in names]
    name = _named(example, asked, ("choices",), where)
    found = example[name]
    if not isinstance(found, list) or len(found) < 2 or not all(isinstance(choice, str) for choice in found):
        raise ValueError(f"{where}: {name} must be a list of two strings or more; got {shortened(found)}")
    return [_string({name: choice}, name, where) for choice in found]


def _string(example: Example, name: str, where: str) -> str:
    value = example[name]
    if not isinstance(value, str) or has_surrogates(value):
        raise ValueError(f"{where}: {name} must be a string; got {shortened(value)}")
    return value


def _number(label: Any, count: int, where: str) -> int:
    number = int(label) if isinstance(label, str) and label.strip().isdecimal() else label
    if type(number) is not int or not (0 <= number < count or number == IGNORED):
        raise ValueError(
            f"{where}: the label is the number of the right choice, 0 … {count - 1}; got {shortened(label)}"
        )
    return number
