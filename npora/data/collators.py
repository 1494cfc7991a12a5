"""Collators under transformers' names: callables that Trainer takes as data_collator, examples to a batch of arrays.

Trainer pads by itself, so that a script needs none of these; they are for scripts that have one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from npora.data.collate import IGNORED, LABELS, collate
from npora.nn.module import Array
from npora.nn.readable import Readable

Examples = Sequence[Mapping[str, Any]]


class DataCollatorWithPadding(Readable):
    """Pads a batch to its longest example, or with padding="max_length" to max_length, with the tokenizer's
    pad_token_id.

    pad_to_multiple_of : lengths are rounded up to a multiple. Padding costs nothing here: models pack the real tokens
    return_tensors : "np"

    Labels that are sequences are padded with −100.
    """

    def __init__(
        self,
        tokenizer: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        return_tensors: str = "np",
    ) -> None:
        if return_tensors != "np":
            raise ValueError(f"return_tensors must be 'np'; got {return_tensors!r}: npora is NumPy only")
        if padding not in (True, "longest", "max_length"):
            raise ValueError(f"padding must be True, 'longest' or 'max_length'; got {padding!r}")
        if padding == "max_length" and max_length is None:
            raise ValueError("padding='max_length' needs max_length")
        self.tokenizer = tokenizer
        self.length = max_length if padding == "max_length" else None
        self.multiple = pad_to_multiple_of or 1

    also: tuple[str, ...] = ()  # what the model takes besides: labels beside a decoder's tokens have their own length

    def __call__(self, features: Examples) -> dict[str, Array]:
        names = {key for example in features for key in example if key not in LABELS}
        pad = self.tokenizer.pad_token_id or 0
        batch = collate(features, {*names, *self.also, "attention_mask", "labels"}, pad)
        longest = max(batch["input_ids"].shape[1], self.length or 0)
        longest += -longest % self.multiple
        fill = {"input_ids": pad, "labels": IGNORED}
        width = batch["input_ids"].shape[1]
        return {
            name: _widened(array, longest - width, fill.get(name, 0)) if array.shape[1:2] == (width,) else array
            for name, array in batch.items()
        }


class DataCollatorForTokenClassification(DataCollatorWithPadding):
    """As DataCollatorWithPadding, which pads labels beside tokens already."""


class DataCollatorForLanguageModeling(DataCollatorWithPadding):
    """Examples of ids become their own labels, −100 at padding: what a causal language model learns.

    Raises
    ------
    ValueError: mlm=True, which draws masks: mask the examples of the dataset, and give them labels.
    """

    def __init__(
        self, tokenizer: Any, mlm: bool = True, pad_to_multiple_of: int | None = None, return_tensors: str = "np"
    ) -> None:
        if mlm:
            raise ValueError(
                "mlm=True, the default, is not supported: mask the dataset's examples and give them labels, −100 where "
                "no token is masked; for a causal model pass mlm=False"
            )
        super().__init__(tokenizer, pad_to_multiple_of=pad_to_multiple_of, return_tensors=return_tensors)

    def __call__(self, features: Examples) -> dict[str, Array]:
        batch = super().__call__([{k: v for k, v in example.items() if k not in LABELS} for example in features])
        batch["labels"] = np.where(batch["attention_mask"] != 0, batch["input_ids"], IGNORED)
        return batch


class DataCollatorForSeq2Seq(DataCollatorWithPadding):
    """As DataCollatorWithPadding, where labels are a text of another length. The model shifts them by itself."""

    also = ("decoder_input_ids",)

    def __init__(
        self,
        tokenizer: Any,
        model: Any = None,
        padding: bool | str = True,
        max_length: int | None = None,
        pad_to_multiple_of: int | None = None,
        label_pad_token_id: int = IGNORED,
        return_tensors: str = "np",
    ) -> None:
        if label_pad_token_id != IGNORED:
            raise ValueError(f"label_pad_token_id must be {IGNORED}, which no loss counts; got {label_pad_token_id}")
        super().__init__(tokenizer, padding, max_length, pad_to_multiple_of, return_tensors)


def default_data_collator(features: Examples) -> dict[str, Array]:
    """The batch of all the columns of the examples, padded with 0."""
    names = {key for example in features for key in example if key not in LABELS}
    return collate(features, {*names, "labels"})


def _widened(array: Array, columns: int, fill: int) -> Array:
    """[b,t,…] with so many further columns."""
    return np.pad(array, [(0, 0), (0, columns), *[(0, 0)] * (array.ndim - 2)], constant_values=fill)
