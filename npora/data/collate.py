"""Rows to a batch of arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from npora.nn.module import Array

_LABELS = ("labels", "label", "label_ids")
IGNORED = -100


def collate(rows: Sequence[Mapping[str, Any]], names: Collection[str]) -> dict[str, Array]:
    """The batch of the arguments `names` that the rows hold; sequences are padded to the longest, with a mask.

    The padding is gone again inside the model, which packs by `attention_mask`; a row without one is real throughout.
    `label` and `label_ids` are taken for `labels`; labels that are sequences are padded with −100.

    Raises
    ------
    ValueError: rows without input_ids, or a row that lacks what the first one has.
    """
    first = rows[0]
    if "input_ids" not in first:
        raise ValueError(f"a row needs input_ids; this one has: {', '.join(first)}. Tokenize the dataset first")
    keys = {name: name for name in names if name in first and name not in _LABELS}
    label_key = next((key for key in _LABELS if first.get(key) is not None), None)
    if label_key is not None and "labels" in names:
        keys["labels"] = label_key
    batch: dict[str, Array] = {}
    for name, key in keys.items():
        try:
            values = [np.asarray(row[key]) for row in rows]
        except KeyError:
            raise ValueError(f"some rows have {key}, and others do not") from None
        batch[name] = _stack(values, IGNORED if name == "labels" else 0)
    if "attention_mask" in names and "attention_mask" not in batch:
        batch["attention_mask"] = _stack([np.ones(len(row["input_ids"]), dtype=np.int64) for row in rows], 0)
    return batch


def _stack(values: list[Array], fill: int) -> Array:
    if values[0].ndim == 0:
        return np.stack(values)  # [b]
    longest = max(len(value) for value in values)
    batch = np.full((len(values), longest, *values[0].shape[1:]), fill, dtype=values[0].dtype)
    for row, value in zip(batch, values, strict=True):
        row[: len(value)] = value  # [b,t]
    return batch
