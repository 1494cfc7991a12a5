"""How well texts are written: to the letter, or by what a language model says of them.

exact match = the share of texts that are their references, but for space around them           (1)
perplexity = e^ℓ, with ℓ the mean of −ln p over the tokens (Jelinek et al., 1977)              (2)
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def exact_match(predicted: Sequence[str], references: Sequence[str]) -> float:
    """Raises ValueError where there are no texts, or not as many as references."""
    check_texts(predicted, references)
    return sum(x.strip() == y.strip() for x, y in zip(predicted, references, strict=True)) / len(predicted)  # (1)


def perplexity(loss: float) -> float:
    """inf where e^loss is beyond what a float holds."""
    try:
        return math.exp(loss)  # (2)
    except OverflowError:
        return math.inf


def check_texts(predicted: Sequence[str], references: Sequence[str]) -> None:
    """Raise ValueError where there are no texts, or not as many as references."""
    if isinstance(predicted, str) or isinstance(references, str):
        raise ValueError("a list of texts and a list of references are needed; got a text alone")
    if len(predicted) != len(references) or not len(predicted):
        raise ValueError(f"a text and a reference are needed each; got {len(predicted)} and {len(references)}")
