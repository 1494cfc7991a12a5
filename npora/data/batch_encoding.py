"""What a call of a tokenizer gives: a dict whose keys are attributes too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class BatchEncoding(dict[str, Any]):
    """`encoded["input_ids"]` and `encoded.input_ids`; of one text lists of ids, of several lists of lists, or arrays.

    `tokens`, `word_ids`, `sequence_ids` say of each id of a text which token, which word and which of a pair it is.
    """

    def __init__(self, values: Mapping[str, Any], encodings: Sequence[Any] = ()) -> None:
        super().__init__(values)
        self._encodings = encodings

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"this encoding has {', '.join(self)}, and no {name!r}") from None

    def __reduce__(self) -> Any:
        return type(self), (dict(self),)

    def to(self, device: Any, **options: Any) -> BatchEncoding:
        """Itself: arrays are the processor's. Raises ValueError for any other device."""
        if str(device) != "cpu":
            raise ValueError(f"npora computes on the processor; there is no device {device!r}: leave out .to(…)")
        return self

    def tokens(self, batch_index: int = 0) -> list[str]:
        return list(self._encodings[batch_index].tokens)

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        """The number of the word that each token is of, with is_split_into_words of the words given; else None."""
        return list(self._encodings[batch_index].word_ids)

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        """0 or 1 where a token is of the first or the second text, None where it is of neither."""
        return list(self._encodings[batch_index].sequence_ids)


def pad_lists(
    encoded: Mapping[str, Sequence[Sequence[int]]],
    fill: Mapping[str, int],
    length: int | None,
    side: str,
    multiple: int | None,
) -> dict[str, list[list[int]]]:
    """Each list at least `length` and as long as the longest, at a multiple of `multiple`, filled up on one side.

    Raises ValueError for a side that there is not.
    """
    if side not in ("right", "left"):
        raise ValueError(f"padding_side must be 'right' or 'left'; got {side!r}")
    longest = max([len(ids) for ids in encoded["input_ids"]] + [length or 0])
    longest = -(-longest // multiple) * multiple if multiple else longest

    def padded(values: Sequence[int], value: Any) -> list[Any]:
        extra = [value] * (longest - len(values))
        return [*extra, *values] if side == "left" else [*values, *extra]

    return {key: [padded(values, fill.get(key, 0)) for values in lists] for key, lists in encoded.items()}


def as_array(lists: Any) -> Any:
    """int64 [b,t], or [b] of numbers; floats stay floats. Raises ValueError for lists of different lengths."""
    if len({np.shape(example) and len(example) for example in lists}) > 1:
        raise ValueError("texts of different lengths make no array: pass padding=True")
    array = np.array(lists)
    return array.astype(np.int64) if array.dtype.kind in "iu" or not array.size else array
