"""Examples to a batch of arrays. All examples decide together what the batch holds; none of them is asked first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from npora.files.refusal import shortened
from npora.nn.module import Array

LABELS = ("labels", "label", "label_ids")
IGNORED = -100
# Sequences with an entry for each token, and which tokens those are.
_BESIDE = {
    "attention_mask": "input_ids", "token_type_ids": "input_ids", "position_ids": "input_ids",
    "decoder_attention_mask": "decoder_input_ids",
}  # fmt: skip
_TOKENS = ("input_ids", "decoder_input_ids", *_BESIDE)


def collate(
    examples: Sequence[Mapping[str, Any]],
    names: Collection[str],
    pad_token_id: int = 0,
    numbers: Sequence[int] | None = None,
) -> dict[str, Array]:
    """The batch of the arguments `names` that the examples hold; sequences are padded to the longest, with a mask.

    The padding is gone again inside the model, which packs by `attention_mask`; where no example has one, all is real.
    An example's `labels`, else its `label`, else its `label_ids` are its labels; None is nothing. Labels that are
    sequences are padded with −100, ids with `pad_token_id`, all else with 0. Whole numbers become int64; a batch that
    holds a float is of the examples' common type. So the order of the examples changes nothing but the order of the
    batch.

    numbers : of the examples in their dataset, for messages

    Raises
    ------
    ValueError: examples without input_ids, a column that only some of them have or that is not of one kind, sequences
    that do not fit the tokens they stand beside, what is no number. The message names the example.
    """
    numbers = range(len(examples)) if numbers is None else numbers
    for example, number in zip(examples, numbers, strict=True):
        if not isinstance(example, Mapping):
            raise ValueError(
                f"example {number} is a {type(example).__name__}: an example is a dict of input_ids, labels, …"
            )
    present = {name for example in examples for name, value in example.items() if value is not None}
    if "input_ids" not in present:
        there = ", ".join(name for name in examples[0] if name in present) or "nothing"
        raise ValueError(f"an example needs input_ids; this one has: {there}. Tokenize the dataset first")
    batch: dict[str, Array] = {}
    columns: dict[str, list[Array]] = {}
    for name in sorted({*names, "input_ids"}):
        keys = LABELS if name == "labels" else (name,)
        if present.intersection(keys):
            columns[name] = [_array(example, keys, number) for example, number in zip(examples, numbers, strict=True)]
    _check_lengths(columns, names, numbers)
    for name, values in columns.items():
        if name in names:
            fill = IGNORED if name == "labels" else pad_token_id if name.endswith("input_ids") else 0
            batch[name] = _stack(values, fill, _common_type(name, values, numbers), name, numbers)
    if "attention_mask" in names and "attention_mask" not in batch:
        ones = [np.ones(len(ids), dtype=np.int64) for ids in columns["input_ids"]]
        batch["attention_mask"] = _stack(ones, 0, np.dtype(np.int64), "attention_mask", numbers)
    return batch


def _array(example: Mapping[str, Any], keys: Sequence[str], number: int) -> Array:
    """The first of the keys that the example has a value for, as an array of numbers."""
    key = next((key for key in keys if example.get(key) is not None), None)
    if key is None:
        there = ", ".join(name for name, value in example.items() if value is not None)
        raise ValueError(f"some examples have {keys[0]}, and others do not: example {number} has {there or 'nothing'}")
    try:
        array = np.asarray(example[key])
    except (ValueError, TypeError, RuntimeError) as error:  # a ragged list, a tensor that NumPy has no type for
        raise ValueError(f"example {number}: {key} is no array of numbers: {error}") from None
    if array.dtype.kind not in "biuf":
        advice = ""
        if keys is LABELS:
            advice = ": a label is a number; map names to numbers, as model.config.label2id does"
        raise ValueError(f"example {number}: {key} is {shortened(example[key])}{advice}")
    if array.dtype == np.uint64 and (array > np.iinfo(np.int64).max).any():
        raise ValueError(
            f"example {number}: {key} holds {array.max()}, which is no label or id: int64 does not hold it"
        )
    if keys is LABELS and not np.isfinite(array).all():
        raise ValueError(f"example {number}: {key} is {example[key]}: a value is missing, or not a number")
    if key in _TOKENS and array.ndim != 1:
        raise ValueError(
            f"example {number}: {key} must be one list of ids, not an array of shape {array.shape}: a tokenizer called "
            "on one text with return_tensors adds an axis"
        )
    return array


def _common_type(name: str, values: Sequence[Array], numbers: Sequence[int]) -> np.dtype[Any]:
    """The type that holds every example's numbers. An empty sequence has a type by chance, and no say."""
    types = {value.dtype for value in values if value.size}
    kinds = {dtype.kind for dtype in types}
    if name.endswith("_ids") and name in _TOKENS and "f" in kinds:
        example = next(i for i, value in enumerate(values) if value.size and value.dtype.kind == "f")
        raise ValueError(f"example {numbers[example]}: {name} must be whole numbers, not {values[example].dtype}")
    if kinds == {"b"} and not values[0].ndim:  # one for an example: a class is no bool, which the loss says
        return np.dtype(bool)
    return np.result_type(*types) if "f" in kinds else np.dtype(np.int64)


def _check_lengths(columns: Mapping[str, list[Array]], names: Collection[str], numbers: Sequence[int]) -> None:
    """Raise ValueError where an example has more or fewer masks, types, … than tokens.

    Labels may be of another number (several for a sequence), as long as it is the same in all examples; a decoder has
    tokens of its own.
    """
    pairs = dict(_BESIDE)
    labels = columns.get("labels", [])
    of_one_length = len({value.shape[:1] for value in labels}) < 2 or any(value.ndim == 0 for value in labels)
    if not of_one_length and not any(name.startswith("decoder_") for name in names):
        pairs["labels"] = "input_ids"
    for name, other in pairs.items():
        for value, tokens, number in zip(columns.get(name, []), columns.get(other, []), numbers, strict=False):
            if len(value) != len(tokens):
                why = "; labels are one for each token, or as many in every example" if name == "labels" else ""
                raise ValueError(f"example {number}: {name} has {len(value)} entries, and {other} {len(tokens)}{why}")


def _stack(values: list[Array], fill: int, dtype: np.dtype[Any], name: str, numbers: Sequence[int]) -> Array:
    shapes = [value.shape[1:] if value.ndim else None for value in values]
    if (other := next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)) is not None:
        raise ValueError(
            f"{name} must be of one kind in all examples: its shape is {values[0].shape} in example {numbers[0]}, and "
            f"{values[other].shape} in example {numbers[other]}"
        )
    if shapes[0] is None:
        return np.array(values, dtype=dtype)  # [b]
    longest = max(len(value) for value in values)
    batch = np.full((len(values), longest, *shapes[0]), fill, dtype=dtype)
    for padded, value in zip(batch, values, strict=True):
        padded[: len(value)] = value  # [b,t]
    return batch
