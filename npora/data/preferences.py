"""Preferences: a prompt and two answers to it, of which one was chosen; from files, and as tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from npora.data.chats import conversation, template_variables
from npora.data.collate import IGNORED
from npora.data.columns import unpacked
from npora.data.completions import encode_completion
from npora.data.dataset import Dataset, Example
from npora.data.lines import Path
from npora.data.readers import Told, table_examples, text_of_column, watched, where_in
from npora.data.strings import Strings
from npora.data.texts import has_surrogates
from npora.data.tokenizer import Tokenizer
from npora.data.turns import encode_chat
from npora.files.refusal import Refuse, raise_it, shortened

COLUMNS = ("prompt", "chosen", "rejected")


def read_preferences(
    path: Path,
    prompt_column: str | None = "prompt",
    chosen_column: str = "chosen",
    rejected_column: str = "rejected",
    conversational: bool = False,
    refuse: Refuse = raise_it,
    progress: Told | None = None,
) -> Dataset:
    """Examples of `prompt`, `chosen` and `rejected` from a .tsv, .csv, .json or .jsonl file: texts, or lists of
    messages in the forms that read_chats takes.

    conversational : all three become messages, and `variables` for the template stand beside them; a string is what the
        user says in the prompt, and the assistant in an answer. What both answers begin with, the prompt once more or a
        whole conversation, is of the prompt, so that the file may have no column for it
    prompt_column : None where there is none
    refuse, progress : as in read_chats

    Raises
    ------
    ValueError: as the readers, and for what is no text or no conversation; nothing before two answers, or nothing of
    one of them behind what they share. The message has the line.
    """
    found = Strings()
    columns = [name for name in (prompt_column, chosen_column, rejected_column) if name is not None]
    read = _messages if conversational else _texts
    for where, example in watched(table_examples(path, columns, refuse), progress):
        try:
            own = read(example, where, prompt_column, chosen_column, rejected_column)
            written = json.dumps(own, ensure_ascii=False)
            if has_surrogates(written):
                raise ValueError(f"{where}: a text has half of a pair of surrogates, which is no character")
        except ValueError as error:
            refuse(error)
            continue
        found.append(written)
    names = [*COLUMNS, *["variables"] * conversational]
    return Dataset(unpacked(found, names, partial(where_in, path, "line")))


def _texts(example: Example, where: str, *columns: str | None) -> Example:
    if columns[0] is None:
        raise ValueError(f"{where}: a text needs the prompt that it is an answer to, in a column of its own")
    return {name: text_of_column(example, str(own), where) for name, own in zip(COLUMNS, columns, strict=True)}


def _messages(example: Example, where: str, prompt_column: str | None, *columns: str) -> Example:
    prompt = [] if prompt_column is None else conversation(example[prompt_column], where, prompt_column, "user")
    one, other = (conversation(example[name], where, name, "assistant") for name in columns)
    if prompt == one[: len(prompt)] and prompt == other[: len(prompt)]:
        prompt, one, other = [], [*one], [*other]  # it stands in the answers once more
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    prompt, one, other = prompt + one[:same], one[same:], other[same:]
    if not prompt or not one or not other:
        raise ValueError(
            f"{where}: two answers to one prompt are expected, whose messages differ behind it; got {len(prompt)} "
            f"messages that are the same, {len(one)} chosen and {len(other)} rejected"
        )
    return {"prompt": prompt, "chosen": one, "rejected": other, "variables": template_variables(example, where)}


def encode_preference(
    tokenizer: Tokenizer, example: Mapping[str, Any], max_length: int | None = None
) -> dict[str, list[int]]:
    """`input_ids`: the tokens of the prompt and the chosen answer, and behind them those of the rejected one. `labels`:
    how many the prompt has, and how many the prompt and the chosen answer.

    Texts are encoded as encode_completion does it, messages as encode_chat does, up to the end of the answer's turn. A
    prompt that is too long with the longer answer for max_length loses its beginning, and then each answer its end.

    Raises
    ------
    ValueError: an example without a prompt and both answers; texts beside messages; one of the three without a token.
    """
    if not isinstance(example, Mapping) or any(example.get(name) is None for name in COLUMNS):
        there = ", ".join(example) if isinstance(example, Mapping) else type(example).__name__
        raise ValueError(f"preferences are dicts of prompt, chosen and rejected; got {there}")
    if not any(all(isinstance(example[name], kind) for name in COLUMNS) for kind in (str, list | tuple)):
        came = ", ".join(f"{name} {shortened(example[name])}" for name in COLUMNS)
        raise ValueError(f"prompt, chosen and rejected must be three strings, or three lists of messages; got {came}")
    both = [_encoded(tokenizer, example, name) for name in COLUMNS[1:]]
    (one, other), longest = (encoded["input_ids"] for encoded in both), min(map(_first_learnt, both))
    # A token may hold the prompt's last letters and an answer's first: then the texts part before the answers begin.
    begin = next((i for i in range(longest) if one[i] != other[i]), longest)
    before, answers = one[:begin], [one[begin:], other[begin:]]
    if max_length is not None:
        before = before[max(begin - max(max_length - max(map(len, answers)), 1), 0) :]
        answers = [answer[: max(max_length - len(before), 0)] for answer in answers]
    if not before or not all(answers):
        raise ValueError(
            f"a prompt and both answers have a token at least; these have {len(before)}, {len(answers[0])} and "
            f"{len(answers[1])}, where what both begin with is the prompt's (max_length={max_length})"
        )
    chosen, rejected = answers
    return {"input_ids": [*before, *chosen, *rejected], "labels": [len(before), len(before) + len(chosen)]}


def preference_parts(encoded: Mapping[str, Sequence[int]]) -> list[dict[str, list[int]]]:
    """The chosen text and the rejected one, each as `input_ids` and `labels` like those of a completion."""
    ids, (begin, middle) = list(encoded["input_ids"]), encoded["labels"]
    answers = ids[begin:middle], ids[middle:]
    return [{"input_ids": ids[:begin] + own, "labels": [IGNORED] * begin + own} for own in answers]


def _first_learnt(encoded: Mapping[str, list[int]]) -> int:
    labels = encoded["labels"]
    return next((i for i, label in enumerate(labels) if label != IGNORED), len(labels))


def _encoded(tokenizer: Tokenizer, example: Mapping[str, Any], name: str) -> dict[str, list[int]]:
    """The prompt with an answer; messages as the tokenizer's chat template writes them, up to the end of the turn."""
    prompt, variables = example["prompt"], example.get("variables") or {}
    if isinstance(prompt, str):
        return encode_completion(tokenizer, prompt, example[name])
    encoded = encode_chat(tokenizer, [*prompt, *example[name]], first=len(prompt), **variables)
    last = max((i for i, label in enumerate(encoded["labels"]) if label != IGNORED), default=-1)
    return {key: values[: last + 1] for key, values in encoded.items()}
