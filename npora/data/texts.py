"""What callers pass for texts, as a list that a tokenizer takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def as_texts(text: Any, pair: Any, words: bool = False) -> tuple[list[Any], bool]:
    """The texts, tuples of two where they are pairs, and whether one was passed and no list.

    text, pair : a string, or a list, an array or a column of them; with `words` a list of words for each string

    Raises
    ------
    TypeError: what is no text, with its place.  ValueError: more texts than pairs, or fewer.
    """
    texts, one = _listed(text, words)
    if pair is None or (one and isinstance(pair, str) and not pair):  # as transformers has it: an empty one is none
        return texts, one
    pairs, single = _listed(pair, words)
    if one != single:
        raise TypeError("text and text_pair must both be one text, or both be lists of texts")
    if len(texts) != len(pairs):
        raise ValueError(f"each text needs its text_pair; got {len(texts)} and {len(pairs)}")
    return list(zip(texts, pairs, strict=True)), one


def _listed(text: Any, words: bool) -> tuple[list[Any], bool]:
    if isinstance(text, np.ndarray):
        text = text.tolist()
    if isinstance(text, str):
        if words:
            raise TypeError("is_split_into_words needs a list of words; got a string")
        return [text], True
    if not isinstance(text, Iterable) or isinstance(text, bytes):
        raise TypeError(f"a tokenizer takes a string or a list of strings; got {type(text).__name__}")
    texts = list(text)
    if words and all(isinstance(word, str) for word in texts):
        return [texts], True
    for i, value in enumerate(texts):
        parts = value if words or (isinstance(value, tuple | list) and len(value) == 2) else [value]
        for part in parts if isinstance(parts, Iterable) else [parts]:
            if not isinstance(part, str):
                raise TypeError(
                    f"a tokenizer takes a string or a list of strings; got {type(part).__name__} in the list, "
                    f"{_short(part)} at {i}"
                )
    return [tuple(value) if isinstance(value, list) and not words else value for value in texts], False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
