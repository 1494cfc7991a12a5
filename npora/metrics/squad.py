"""How well the answers to questions are found, by SQuAD's two figures (Rajpurkar et al., 2016; 2018, where a text may
hold no answer).

Two answers are compared as lists of words w and w′: small letters, no punctuation, no article.

exact match = 1 where w = w′, else 0                                                                     (1)
F1 = 2 n / (|w| + |w′|), n the words that they have in common, each as often as in both                  (2)

Where neither has words, both are 1. Of several right answers the one counts that says most, and no right answer is the
answer without words. Both figures are means over the questions.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_exact_match(predicted: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """From 0 to 1. references : of each question the right answers. Raises ValueError where there are no answers, or
    not as many as questions."""
    return _mean(lambda w, v: float(w == v), predicted, references)  # (1)


def squad_f1(predicted: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """As squad_exact_match, of the words."""
    return _mean(_f1, predicted, references)


def _f1(w: list[str], v: list[str]) -> float:
    return 1.0 if w == v else 2 * (Counter(w) & Counter(v)).total() / (len(w) + len(v))  # (2)


def _words(answer: str) -> list[str]:
    return _ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split()


def _mean(
    score: Callable[[list[str], list[str]], float], predicted: Sequence[str], references: Sequence[Sequence[str]]
) -> float:
    if isinstance(predicted, str) or any(isinstance(right, str) for right in references):
        raise ValueError("a list of answers is needed, and of each question a list of the right ones; got a text alone")
    if len(predicted) != len(references) or not len(predicted):
        raise ValueError(f"an answer is needed of each question; got {len(predicted)} and {len(references)}")
    best = 0.0
    for answer, right in zip(predicted, references, strict=True):
        wanted = [words for words in map(_words, right) if words] or [[]]
        best += max(score(_words(answer), words) for words in wanted)
    return best / len(predicted)
