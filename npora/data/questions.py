"""Questions whose answer stands in a text: from files, and as windows of tokens with the answer's place in each."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from npora.data.columns import unpacked
from npora.data.dataset import Dataset, Example
from npora.data.lines import Path
from npora.data.readers import Told, table_examples, text_of_column, watched
from npora.data.strings import Strings
from npora.data.tables import shortened_names
from npora.data.tokenizer import Tokenizer
from npora.files.refusal import Refuse, raise_it, shortened

STRIDE = 128  # tokens that a window has in common with the one before it
_NESTED = "paragraphs"  # of SQuAD's own files


def read_questions(
    path: Path,
    question_column: str = "question",
    context_column: str = "context",
    answers_column: str = "answers",
    refuse: Refuse = raise_it,
    progress: Told | None = None,
) -> Dataset:
    """Examples of `text`, the question, `text_pair`, the text that is asked, `answers`, a list of strings, and
    `starts`, the number of the character of the text at which each begins, from a .json or .jsonl file.

    answers_column : {"text": […], "answer_start": […]}, or a list of {"text": …, "answer_start": …}, empty or null
        where the text holds no answer. A .json file may be SQuAD's own, of paragraphs with their questions
    refuse : is given the error of each example that cannot be used; where it returns, the example is left out
    progress : is told how many are read, each few thousand

    Raises
    ------
    ValueError: as the readers; a question or a text that is no string or has no word; an answer that does not stand
    where it is said to. The message has the line.
    """
    packed = Strings()
    names = (question_column, context_column, answers_column)
    for where, example in watched(_flat(path, names, refuse), progress):
        try:
            for name in names:
                if name not in example:
                    there = shortened_names([*example])
                    raise ValueError(f"{where}: there is no column {name!r}; there are: {there}")
            question, context = (text_of_column(example, name, where) for name in names[:2])
            if not question.strip() or not context.strip():
                raise ValueError(f"{where}: {question_column} and {context_column} must have words; one is empty")
            answers, starts = _answers(example[answers_column], answers_column, context, where)
        except ValueError as error:
            refuse(error)
            continue
        own = {"text": question, "text_pair": context, "answers": answers, "starts": starts}
        packed.append(json.dumps(own, ensure_ascii=False))
    return Dataset(unpacked(packed, ["text", "text_pair", "answers", "starts"], partial(_where, path, names)))


def encode_question(tokenizer: Tokenizer, example: Example, max_length: int | None = None) -> list[Example]:
    """The tokens of the question and of the text, as a pair; of a long text several windows of at most max_length,
    each with the whole question, and STRIDE tokens of the text as in the one before (or half of the room there is).

    Each has its number as `window`, `first`, the place of the text's first token, `places` [k,2], from where to where
    its tokens' characters are, and `class`, the token that stands for no answer; where the example has answers, `label`
    is where the first of them begins and ends: twice `class` where it is not in this window whole.

    Raises
    ------
    ValueError: max_length leaves no room beside the question.
    """
    question, context = example["text"].lstrip(), example["text_pair"]
    encoded = tokenizer([question], [context], return_offsets_mapping=True)
    whose = encoded.sequence_ids(0)
    spans = np.array(encoded.pop("offset_mapping")[0], np.int32).reshape(-1, 2)
    whole = {name: list(values[0]) for name, values in encoded.items()}
    if 1 not in whose:
        raise ValueError("there is no token in the text that is asked")
    begin = whose.index(1)
    count = whose.count(1)
    room = count if max_length is None else max_length - (len(whose) - count)
    if room < 1:
        raise ValueError(
            f"the question takes {len(whose) - count} tokens with what stands around it, and leaves nothing of "
            f"{max_length} for the text (--max-length)"
        )
    step = room - min(STRIDE, room // 2)
    marks = (tokenizer.cls_token_id, tokenizer.bos_token_id)
    mark = next((whole["input_ids"].index(own) for own in marks if own in whole["input_ids"][:begin]), 0)
    found: list[Example] = []
    for number in range(1 + max(0, -(-(count - room) // step))):
        start = begin + number * step
        stop = min(start + room, begin + count)
        own: Example = {
            name: values[:begin] + values[start:stop] + values[begin + count :] for name, values in whole.items()
        }
        places = spans[start:stop]  # [k,2]
        own |= {"text_pair": context, "window": number, "first": begin, "places": places, "class": mark}
        if "answers" in example:
            own["answers"] = example["answers"]
            own["label"] = _label(example, places, begin, mark)
        found.append(own)
    return found


def _label(example: Example, places: Any, begin: int, mark: int) -> list[int]:
    """The first answer's first and last token: the last that begins no later, and the first that ends no sooner."""
    if not example["answers"]:
        return [mark, mark]
    start = example["starts"][0]
    stop = start + len(example["answers"][0])
    if not (places[0, 0] <= start and stop <= places[-1, 1]):
        return [mark, mark]
    first = int(np.searchsorted(places[:, 0], start, side="right")) - 1
    last = int(np.searchsorted(places[:, 1], stop, side="left"))
    return [begin + first, begin + last]


def _flat(path: Path, names: Sequence[str], refuse: Refuse) -> Iterator[tuple[str, Example]]:
    """The examples of a file; of SQuAD's own those of each paragraph's questions, under these names."""
    context = names[1]
    for where, example in table_examples(path, (), refuse):
        if _NESTED not in example or context in example:
            yield where, example
            continue
        try:
            for i, paragraph in enumerate(_objects(example, _NESTED, where), start=1):
                place = f"{where}, paragraph {i}"
                for j, asked in enumerate(_objects(paragraph, "qas", place), start=1):
                    yield f"{place}, question {j}", {**asked, context: paragraph.get("context")}
        except ValueError as error:
            refuse(error)


def _where(path: Path, names: Sequence[str], number: int) -> str:
    return next(itertools.islice((where for where, _ in _flat(path, names, raise_it)), number, None), os.fspath(path))


def _objects(example: Mapping[str, Any], name: str, where: str) -> list[Example]:
    found = example.get(name)
    if not isinstance(found, list) or not all(isinstance(own, dict) for own in found):
        raise ValueError(f"{where}: {name} must be a list of objects; got {shortened(found)}")
    return found


def _answers(given: Any, name: str, context: str, where: str) -> tuple[list[str], list[int]]:
    wrong = ValueError(
        f'{where}: {name} must be {{"text": […], "answer_start": […]}}, or a list of objects with both; got '
        f"{shortened(given)}"
    )
    if isinstance(given, dict):
        texts, starts = given.get("text"), given.get("answer_start")
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise wrong
    elif given is None or isinstance(given, list):
        if not all(isinstance(own, dict) for own in given or ()):
            raise wrong
        texts = [own.get("text") for own in given or ()]
        starts = [own.get("answer_start") for own in given or ()]
    else:
        raise wrong
    for text, start in zip(texts, starts, strict=True):
        if not isinstance(text, str) or not text.strip() or type(start) is not int:
            raise wrong
        if start < 0 or context[start : start + len(text)] != text:
            at = context.find(text)
            hint = f"; it stands at {at}" if at >= 0 else ", nor anywhere in it"
            raise ValueError(f"{where}: the answer {shortened(text)} does not stand at {start} of the text{hint}")
    return texts, starts
