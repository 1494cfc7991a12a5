"""ROUGE-L: how much of a reference a text has in the same order (Lin, 2004).

With L the length of the longest common subsequence of the words of a text x and a reference y,

    P = L / |x|,   R = L / |y|,   F = 2 P R / (P + R) = 2 L / (|x| + |y|)                          (1)
    L_ij = L_{i−1,j−1} + 1 where x_i = y_j, else max(L_{i−1,j}, L_{i,j−1})                        (2)

Words are runs of the letters a to z and digits in lower case, as in the package rouge-score; the mean is over texts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from npora.metrics.texts import check_texts

_WORD = re.compile(r"[a-z0-9]+")


def rouge_l(predicted: Sequence[str], references: Sequence[str]) -> float:
    """The mean of F over the texts, each with its reference.

    Raises
    ------
    ValueError: no texts, or not as many as references.
    """
    check_texts(predicted, references)
    return sum(map(_f, predicted, references)) / len(predicted)


def _f(text: str, reference: str) -> float:
    x, y = (_WORD.findall(one.lower()) for one in (text, reference))
    return 2 * longest_common(x, y) / (len(x) + len(y)) if x and y else 0.0  # (1)


def longest_common(x: Sequence[str], y: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    lengths = [0] * (len(y) + 1)  # L_{i−1,·}
    for word in x:
        diagonal = 0  # L_{i−1,j−1}
        for j, other in enumerate(y, start=1):
            above = lengths[j]
            lengths[j] = diagonal + 1 if word == other else max(above, lengths[j - 1])  # (2)
            diagonal = above
    return lengths[-1]
