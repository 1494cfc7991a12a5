"""Texts that are alike or not: pairs, pairs with a score, and triplets of an anchor, a positive and a negative."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from npora.data.collate import LABELS
from npora.data.tokenizer import Tokenizer

SCORES = (*LABELS, "score", "scores")
# Columns of two texts, and of a third that is unlike the first, in the order in which they are looked for.
_USUAL = (
    ("anchor", "positive", "negative"), ("query", "positive", "negative"), ("sentence1", "sentence2", None),
    ("sentence_A", "sentence_B", None), ("query", "answer", None), ("question", "answer", None),
    ("premise", "hypothesis", None), ("text", "text_pair", "negative"),
)  # fmt: skip


def usual_texts(names: Sequence[str]) -> tuple[str, str, str | None, str | None] | None:
    """The columns of two texts, of a negative and of a score, where a file has them under a usual name."""
    for one, other, negative in _USUAL:
        if one in names and other in names:
            score = next((name for name in SCORES if name in names), None)
            return one, other, negative if negative in names else None, score
    return None


def encode_alike(
    tokenizer: Tokenizer, texts: Sequence[str], label: float | None = None, max_length: int | None = None
) -> dict[str, Any]:
    """`input_ids`: the tokens of all texts, one behind the other, each as the tokenizer encodes it by itself, cut to
    max_length; `lengths`: how many each has; `label`: how alike the first two are, 1 unless said; `is_scored`: whether
    it is.

    Raises
    ------
    ValueError: fewer than two texts; one without a token.
    """
    if len(texts) < 2:
        raise ValueError(f"two texts that are alike, or more, are expected; got {len(texts)}")
    ids = [
        list(tokenizer(text, truncation=max_length is not None, max_length=max_length)["input_ids"]) for text in texts
    ]
    if not all(ids):
        raise ValueError("a text has no token")
    lengths = [len(own) for own in ids]
    own = {"is_scored": int(label is not None), "label": 1.0 if label is None else float(label)}
    return {"input_ids": list(chain.from_iterable(ids)), "lengths": lengths, **own}


def texts_of(example: Mapping[str, Any]) -> tuple[list[str], float | None]:
    """The texts of an example in the order of its columns, whatever these are called, and its score; as
    sentence-transformers reads a data set."""
    score = next((example[name] for name in SCORES if example.get(name) is not None), None)
    return [value for name, value in example.items() if isinstance(value, str) and name not in SCORES], score
