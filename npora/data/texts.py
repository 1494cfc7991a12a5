"""What callers pass for texts, as a list that a tokenizer takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from npora.files.refusal import shortened


def as_texts(text: Any, pair: Any, words: bool = False) -> tuple[list[Any], bool]:
    """The texts, tuples of two where they are pairs, and whether one was passed and no list.

    text, pair : a string, or a list, an array or a column of them; with `words` a list of words for each string

    Raises
    ------
    TypeError: what is no text, with its place.  ValueError: more texts than pairs, or fewer; half of a pair of
    surrogates, which is no character.
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
        _check_characters(text, "the text")
        return [text], True
    if not isinstance(text, Iterable) or isinstance(text, bytes):
        raise TypeError(f"a tokenizer takes a string or a list of strings; got {type(text).__name__}")
    texts = list(text)
    if words and all(isinstance(word, str) for word in texts):
        for i, word in enumerate(texts):
            _check_characters(word, f"the word at {i}")
        return [texts], True
    for i, value in enumerate(texts):
        parts = value if words or (isinstance(value, tuple | list) and len(value) == 2) else [value]
        for part in parts if isinstance(parts, Iterable) else [parts]:
            if not isinstance(part, str):
                raise TypeError(
                    f"a tokenizer takes a string or a list of strings; got {type(part).__name__} in the list, "
                    f"{shortened(part)} at {i}"
                )
            _check_characters(part, f"the text at {i}")
    return [tuple(value) if isinstance(value, list) and not words else value for value in texts], False


def has_surrogates(text: str) -> bool:
    """Whether there is half of a pair of surrogates in it, which UTF-8 has not: JSON escapes bring it, and bytes that
    were read as they came."""
    return not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)


def _check_characters(text: str, what: str) -> None:
    if has_surrogates(text):
        raise ValueError(f"{what} has half of a pair of surrogates, which is no character: {shortened(text)}")
