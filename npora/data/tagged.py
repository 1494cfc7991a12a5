"""Words with a tag each, as names and parts of speech are marked: from files, and as labels of tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from npora.data.collate import IGNORED
from npora.data.columns import unpacked
from npora.data.dataset import Dataset, Example
from npora.data.labels import Labels
from npora.data.lines import Path
from npora.data.readers import Told, table_examples, watched, where_in
from npora.data.strings import Strings
from npora.data.texts import has_surrogates
from npora.data.tokenizer import Tokenizer
from npora.files.refusal import Refuse, raise_it, shortened


def read_tagged(
    path: Path,
    tokens_column: str = "tokens",
    tags_column: str | None = "tags",
    label2id: Mapping[str, int] | None = None,
    refuse: Refuse = raise_it,
    progress: Told | None = None,
) -> Dataset:
    """Examples of `words`, a list of strings, and `tags`, a number for each, from a .json or .jsonl file.

    tags_column : a list of names or of numbers 0, 1, …; None where there are no tags, or none are to be read
    label2id : the numbers of the names. Without it they are numbered in sorted order, and the dataset has the mapping
    refuse : is given the error of each example that cannot be used; where it returns, the example is left out
    progress : is told how many are read, each few thousand

    Raises
    ------
    ValueError: as the readers; words that are no list of strings, tags in another number than the words, a tag that is
    neither a name nor a number. The message has the line.
    """
    labels = Labels(None, label2id, None)
    kept: list[tuple[list[str], int]] = []
    columns = [tokens_column] if tags_column is None else [tokens_column, tags_column]
    for where, example in watched(table_examples(path, columns, refuse), progress):
        try:
            words, tags = _checked(example, tokens_column, tags_column, where)
        except ValueError as error:
            refuse(error)
            continue
        kept.append((words, len(tags)))
        for tag in tags:
            labels.add(tag, where)
    numbers: Sequence[int] = ()
    if tags_column is not None:
        try:
            numbers = labels.numbers()
        except ValueError:
            for fault in labels.faults():
                refuse(ValueError(fault))
            kept = []
    packed, start = Strings(), 0
    for words, count in kept:
        own = {"words": words, "tags": list(numbers[start : start + count])}
        packed.append(json.dumps(own, ensure_ascii=False))
        start += count
    dataset = Dataset(
        unpacked(packed, ["words"] + ["tags"] * (tags_column is not None), partial(where_in, path, "line"))
    )
    dataset.label2id = labels.label2id
    return dataset


def encode_words(tokenizer: Tokenizer, examples: Sequence[Example], max_length: int | None = None) -> list[Example]:
    """Examples as tokens; a word's tag is the label of its first token, and −100 of all others."""
    encoded = tokenizer(
        [example["words"] for example in examples], is_split_into_words=True, truncation=max_length is not None,
        max_length=max_length,
    )  # fmt: skip
    found: list[Example] = []
    for i, example in enumerate(examples):
        own: Example = {name: values[i] for name, values in encoded.items()}
        if "tags" in example:
            places = encoded.word_ids(i)
            own["labels"] = [
                IGNORED if word is None or word == before else example["tags"][word]
                for word, before in zip(places, [None, *places], strict=False)
            ]
        found.append(own)
    return found


def _checked(example: Example, tokens_column: str, tags_column: str | None, where: str) -> tuple[list[str], list[Any]]:
    words = example[tokens_column]
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{where}: {tokens_column} must be a list of words; got {shortened(words)}")
    if any(map(has_surrogates, words)):
        raise ValueError(f"{where}: a word has half of a pair of surrogates, which is no character")
    tags = [] if tags_column is None else example[tags_column]
    if not isinstance(tags, list) or (tags_column is not None and len(tags) != len(words)):
        what = f"{len(tags)} tags" if isinstance(tags, list) else shortened(tags)
        raise ValueError(f"{where}: {tags_column} must be a list with a tag for each of {len(words)} words; got {what}")
    return words, tags
