"""The examples of a file as the model is given them: few at once, and many as they are needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from npora.commands.examples import is_cut, say_cut
from npora.commands.messages import say
from npora.commands.tasks import Task
from npora.data import Dataset, Tokenizer
from npora.data.columns import LazyExamples, examples_at, examples_of
from npora.data.completions import window
from npora.data.dataset import Example
from npora.data.turns import ASSISTANT
from npora.train.progress import Progress

AT_ONCE = 20_000  # examples of which no more are encoded before the training begins
_BATCH = 256


def encoded(
    task: Task, examples: Dataset, tokenizer: Tokenizer, length: int | None, what: str, cache: str | None = None
) -> Dataset:
    """The examples as the model is given them. Says of how many the end, or of a prompt the beginning, is cut off, and
    where a prompt and the text behind it run into each other.

    Of more than AT_ONCE examples each is encoded when it is asked for, and the first that is cut is told of then.

    cache : a folder that gets them all, once, or has them
    """
    if task.prepares_late:
        return examples.with_transform(partial(_prepared, task, tokenizer))
    if task.continues:
        _say_joined(examples, what)
    made = EncodedExamples(task, examples, tokenizer, length, what)
    if cache is not None:
        progress = Progress(None, "example")
        try:
            return Dataset(made).cached(cache, progress.step)
        finally:
            progress.close()
    if len(examples) <= AT_ONCE:
        made.make_all()
    elif all(task.is_idle([made[number]]) for number in range(min(_BATCH, len(made)))):
        raise _nothing(examples, what)
    return Dataset(made)


def _prepared(task: Task, processor: Any, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    parts = [part for (part,) in task.encode_all(examples_of(columns, "a data set"), processor, None)]
    return {name: [part[name] for part in parts] for name in parts[0]}


def _nothing(examples: Dataset, what: str) -> ValueError:
    why = "what is to be learnt is cut off (--max-length), or there is none"
    if "rejected" in examples.column_names:
        why = "both answers of each example have the same tokens, or are cut off where they differ (--max-length)"
    if "messages" in examples.column_names:
        roles = dict.fromkeys(str(message.get("role")) for example in examples for message in example["messages"])
        if ASSISTANT not in roles:
            why = f"no message is of the role {ASSISTANT}; there are {', '.join([*roles][:8])}"
    return ValueError(f"{what}: there is nothing to learn: {why}")


class EncodedExamples(LazyExamples):
    """Examples that are encoded each time that they are asked for, many in one call of the tokenizer, or all at once.

    Where long texts become windows, how many there are must be known beforehand: the texts that may be too long for one
    are encoded before the first example is made, and their ids alone are kept.
    """

    def __init__(self, task: Task, examples: Dataset, tokenizer: Tokenizer, length: int | None, what: str) -> None:
        self.task, self.examples, self.tokenizer, self.length, self.what = task, examples, tokenizer, length, what
        self._has_told = False
        self._made: list[Example] | None = None
        self._is_counted = length is None or not task.has_windows(examples.column_names)
        self._long: dict[int, Any] = {}  # the ids of texts of several windows; of pairs None
        self._owner: Any = None  # the number of each window's example
        self._first: Any = None  # the number of each example's first window

    def fingerprint(self) -> dict[str, Any]:
        """That of the texts and labels, the tokenizer, and how they are cut."""
        how = {"task": self.task.name, "tokenizer": self.tokenizer.digest(), "max_length": self.length}
        if "variables" in self.examples.column_names:
            how["chat_template"] = self.tokenizer.chat_template
        return {**self.examples.fingerprint(), **how}

    def make_all(self) -> None:
        """Encode all of them now, and keep them."""
        self._made = list(self)

    def __iter__(self) -> Iterator[Example]:
        """All in order, each encoded once. Says at the end how many were cut, and of how many nothing is learnt.

        Raises
        ------
        ValueError: nothing is learnt of any.
        """
        if self._made is not None:
            yield from self._made
            return
        cut = idle = 0
        for start in range(0, len(self.examples), _BATCH):
            numbers = range(start, min(start + _BATCH, len(self.examples)))
            for example, parts in self._encoded(numbers):
                cut += is_cut(self.task, example, parts, self.tokenizer, self.length)
                idle += self.task.is_idle(parts)
                yield from parts
        say_cut(cut, len(self.examples), self.length, self.what)
        if idle and idle == len(self.examples):
            raise _nothing(self.examples, self.what)
        if idle:
            is_pair = "rejected" in self.examples.column_names
            what = ", as to which answer is better: both have the same tokens" * is_pair
            say(f"{self.what}: of {idle:,} of {len(self.examples):,} examples nothing is learnt{what}")

    def _encoded(self, numbers: Sequence[int]) -> list[tuple[Example, list[Example]]]:
        """The examples of these numbers, each with what it becomes. A ValueError says where in the file it stands."""
        examples = examples_at(self.examples, numbers) if len(numbers) else []
        try:
            made = self.task.encode_all(examples, self.tokenizer, self.length) if examples else []
        except ValueError:
            for number, example in zip(numbers, examples, strict=True):
                try:
                    self.task.encode(example, self.tokenizer, self.length)
                except ValueError as error:
                    raise ValueError(f"{self.examples.where(number)}: {error}") from None
            raise
        for number, parts in zip(numbers, made, strict=True):
            if not all(part["input_ids"] for part in parts):
                raise ValueError(f"{self.examples.where(number)}: there is no token in the text")
        return list(zip(examples, made, strict=True))

    def _count_windows(self, length: int) -> None:
        counts = np.ones(len(self.examples), np.int64)
        progress = Progress(len(self.examples), "example")
        for number, example in enumerate(self.examples):
            if "text_pair" in example:
                if may_have_more(example["text"] + example["text_pair"], length):
                    counts[number] = len(self._encoded([number])[0][1])
                    if counts[number] > 1:
                        self._long[number] = None
            elif may_have_more(example["text"], length):
                whole = self._whole_text(number, example)
                counts[number] = 1 + max(0, -(-(len(whole["input_ids"]) - length) // (length - 1)))
                if counts[number] > 1:
                    self._long[number] = np.array(whole["input_ids"], np.int32)
            if number % _BATCH == 0:
                progress.step(number)
        progress.close()
        if self._long:
            self._owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
            self._first = np.cumsum(counts) - counts

    def _whole_text(self, number: int, example: Example) -> Example:
        try:
            return self.task.encode(example, self.tokenizer, None)[0]
        except ValueError as error:
            raise ValueError(f"{self.examples.where(number)}: {error}") from None

    def __len__(self) -> int:
        if self._made is not None:
            return len(self._made)
        if not self._is_counted:
            assert self.length is not None, "windows of no length"
            self._count_windows(self.length)
            self._is_counted = True
        return len(self.examples) if self._owner is None else len(self._owner)

    def __getitems__(self, numbers: Sequence[int]) -> list[Example]:
        if self._made is not None:
            return [self._made[number] for number in numbers]
        if not self._is_counted:
            len(self)
        owners = [int(n) if self._owner is None else int(self._owner[n]) for n in numbers]
        short = [owner for owner in owners if owner not in self._long]
        made = iter(self._encoded(short))
        return [
            self._window(owner, number) if owner in self._long else self._whole(*next(made))
            for owner, number in zip(owners, numbers, strict=True)
        ]

    def _window(self, owner: int, number: int) -> Example:
        assert self.length is not None, "windows of no length"
        place = int(number - self._first[owner])
        if self._long[owner] is None:
            return self._encoded([owner])[0][1][place]
        ids = self._long[owner].tolist()
        return dict(window(ids, ids, self.length, place))

    def _whole(self, example: Example, parts: Sequence[Example]) -> Example:
        if not self._has_told and (len(parts) > 1 or is_cut(self.task, example, parts, self.tokenizer, self.length)):
            self._has_told = True
            say(
                f"{self.what}: an example has more than {self.length} tokens and is cut to that (--max-length), as are "
                f"others like it: {_beginning(example)!r}…"
            )
        return parts[0]

    def take(self, numbers: Iterable[int]) -> LazyExamples:
        raise NotImplementedError("examples are chosen before they are encoded")


def _beginning(example: Example) -> str:
    said = next(example[name] for name in ("text", "words", "prompt", "messages") if name in example)
    if isinstance(said, list):
        said = " ".join(said) if "words" in example else said[0].get("content")
    return str(said)[:40]


def may_have_more(text: str, length: int) -> bool:
    """Whether a text may have more tokens than `length`, what a tokenizer puts around it included. None has more than
    bytes, but where a tokenizer takes characters apart first: by three times hardly any text."""
    return len(text.encode("utf-8", "surrogatepass")) * (1 if text.isascii() else 3) + 8 > length


def _say_joined(examples: Dataset, what: str) -> None:
    if not {"prompt", "text"} <= {*examples.column_names}:
        return
    count, shown = 0, ""
    for example in examples:
        joined = example["prompt"][-1:] + example["text"][:1]
        if joined.isascii() and joined[:1].isalnum() and example["prompt"] and joined[1:].isalnum():
            count += 1
            shown = shown or example["prompt"][-20:] + example["text"][:20]
    if count:
        say(
            f"{what}: in {count:,} of {len(examples):,} examples the text stands behind its prompt without a space, as "
            f"in {shown!r}, and is learnt so: begin the text with a space where one belongs"
        )
