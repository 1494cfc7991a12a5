"""Examples of a dataset as the arrays that a model's forward takes."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from npora.data.choices import collate_choices
from npora.data.collate import LABELS, collate
from npora.data.columns import examples_at
from npora.data.images import collate_images
from npora.nn import Module
from npora.nn.module import Array

Batch = dict[str, Array]
Example = Mapping[str, Any]
Collator = Callable[[list[Any]], Mapping[str, Any]]


class Batches:
    """Makes batches for one model: by `collate`, of choices and images by collators of their own, or by one of the
    user's, a function of a list of examples.

    Ids are padded with the config's pad_token_id, else the tokenizer's, else 0: models pack by the attention mask, and
    some look for that token besides.
    """

    def __init__(self, model: Module, tokenizer: Any, collator: Collator | None, remove_unused_columns: bool) -> None:
        inner = base_of(model)
        self.names = set(inputs_of(inner))
        self.label_names: tuple[str, ...] = getattr(inner, "label_names", LABELS[:1])
        self._collate = collate_choices if getattr(inner, "of_choices", False) else collate
        if "pixel_values" in self.names:
            self._collate = collate_images
        self.collator, self.all_columns = collator, not remove_unused_columns
        self._config, self._tokenizer = getattr(inner, "config", None), tokenizer

    def pad_token_id(self) -> int:
        vocabulary = getattr(self._config, "vocab_size", None)
        for owner in (self._config, self._tokenizer):
            number = getattr(owner, "pad_token_id", None)
            if number is not None and 0 <= number and (vocabulary is None or number < vocabulary):  # Llama's may be −1
                return int(number)
        return 0

    def of(self, examples: list[Example], numbers: Sequence[int], labelled: bool = True) -> Batch:
        """The batch of these examples, which have these numbers in their dataset; without labels where none are asked
        for, unless a decoder reads them.

        Raises
        ------
        ValueError: as collate; an example without a token.  TypeError: a collator that returns no dict.
        """
        examples = [self._with_labels(example) for example in examples]
        if self.collator is None:
            names = self.names if labelled or "decoder_input_ids" in self.names else self.names - {"labels"}
            batch = self._collate(examples, names, self.pad_token_id(), numbers)
        else:
            batch = self._collated(examples)
        mask = batch.get("attention_mask")
        if mask is not None and mask.ndim == 2 and (empty := np.flatnonzero(~mask.any(axis=1))).size:
            where = numbers[empty[0]] if len(mask) == len(numbers) else f"{empty[0]} of a batch"
            raise ValueError(
                f"example {where} has no token, or its attention_mask is all zeros: leave such examples out"
            )
        return batch

    def _with_labels(self, example: Example) -> Example:
        """The example, with its labels as one column where the task has them in several."""
        if len(self.label_names) == 1 or not isinstance(example, Mapping) or "labels" in example:
            return example
        labels = [example.get(name) for name in self.label_names]
        return example if None in labels else {**example, "labels": labels}

    def _collated(self, examples: list[Example]) -> Batch:
        assert self.collator is not None
        if not self.all_columns:
            wanted = {*self.names, *LABELS}
            examples = [{k: v for k, v in example.items() if k in wanted and v is not None} for example in examples]
        found = self.collator(examples)
        if not isinstance(found, Mapping):
            raise TypeError(f"a data_collator must return a dict of arrays; got {type(found).__name__}")
        labels = next((found[key] for key in LABELS if found.get(key) is not None), None)
        arrays = {name: found[name] for name in found if name in self.names and name not in LABELS}
        if labels is not None and "labels" in self.names:
            arrays["labels"] = labels
        return {name: np.asarray(value) for name, value in arrays.items() if value is not None}

    def stream(self, data: Iterable[Example], size: int, labelled: bool = True) -> Iterator[Batch]:
        """The examples of a dataset, or of whatever gives examples, in order, `size` at a time."""
        start = 0
        for chunk in _chunks(data, size):
            yield self.of(chunk, range(start, start + len(chunk)), labelled)
            start += len(chunk)

    def refuse_unlabelled(self, example: Example) -> None:
        """Raise ValueError: training needs labels, which these examples or this model's forward do not have."""
        if "labels" not in self.names:
            raise ValueError("this model's forward takes no labels, and has no loss: take an AutoModelFor… with a head")
        raise ValueError(f"training needs labels; an example of this dataset has: {', '.join(example)}")


def base_of(model: Module) -> Any:
    """The model itself, or the one below its adapters."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def inputs_of(model: Any) -> tuple[str, ...]:
    """The arrays, by name, that the model says it takes; of a Module that does not say, what its forward has names for,
    but `rng`."""
    if hasattr(model, "inputs"):
        return tuple(model.inputs)
    return tuple(name for name in inspect.signature(model.forward).parameters if name != "rng")


@contextmanager
def naming_examples(numbers: Sequence[int]) -> Iterator[None]:
    """Within this block a ValueError, which counts examples within a batch or a part of it, says which examples these
    are."""
    try:
        yield
    except ValueError as error:
        shown = ", ".join(str(number) for number in numbers[:16]) + (", …" if len(numbers) > 16 else "")
        raise ValueError(f"{error} (in a batch of the dataset's examples {shown})") from error


def number_of_tokens(batch: Batch) -> int:
    """An image counts as one."""
    if "pixel_values" in batch:
        return len(batch["pixel_values"])
    mask = batch.get("attention_mask")
    return int(mask.sum()) if mask is not None else int(batch["input_ids"].size) if "input_ids" in batch else 0


def check_dataset(data: Any, name: str) -> Any:
    """The data itself. Raises ValueError or TypeError where it is no sequence of examples, or an empty one."""
    if data is None:
        raise ValueError(f"there is no {name}: pass one to Trainer")
    if isinstance(data, Mapping):
        keys = ", ".join(map(str, data))
        raise TypeError(f"{name} is a dict of {keys}: pass a sequence of examples, which of several is data['train']")
    if hasattr(data, "iloc"):
        raise TypeError(f"{name} is a table of pandas: pass its examples, table.to_dict('records')")
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise TypeError(f"{name} must be a sequence of examples, with a length; got {type(data).__name__}")
    if len(data) == 0:
        raise ValueError(f"{name} is empty")
    return data


def _chunks(data: Any, size: int) -> Iterator[list[Example]]:
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):  # one that has no __iter__ may know no IndexError
        for start in range(0, len(data), size):
            yield examples_at(data, range(start, min(start + size, len(data))))
        return
    examples = iter(data)
    while chunk := list(itertools.islice(examples, size)):
        yield chunk
