"""BLEU: how many runs of words a text shares with its reference (Papineni et al., 2002).

With c_n the number of runs of n words in all texts together, and m_n of them in their references too, each at most as
often as it is there; with c and r the numbers of words in texts and references:

    p_n = m_n / c_n,   n = 1 … 4                                                                   (1)
    BLEU = 100 min(1, e^(1 − r/c)) (p_1 p_2 p_3 p_4)^¼                                             (2)

Where m_n = 0 it is taken for 1/2, at the next such n for 1/4, … (Chen and Cherry, 2014). Words and figures are those of
sacrebleu (Post, 2018), which takes the first from mteval-v13a.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from npora.metrics.texts import check_texts

_ORDER = 4
_UNESCAPED = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_APART = (
    (re.compile(r"([{-~[-` -&(-+:-@/])"), r" \1 "), (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"), (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)  # fmt: skip


def bleu(predicted: Sequence[str], references: Sequence[str]) -> float:
    """BLEU of all texts together, each with its reference, from 0 to 100.

    Raises
    ------
    ValueError: no texts, or not as many as references.
    """
    check_texts(predicted, references)
    pairs = [(words(text), words(reference)) for text, reference in zip(predicted, references, strict=True)]
    c, r = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))
    logs, zeros = 0.0, 0
    for n in range(1, _ORDER + 1):
        found = sum((_runs(x, n) & _runs(y, n)).total() for x, y in pairs)
        total = sum(max(len(x) - n + 1, 0) for x, _ in pairs)
        if not total:
            return 0.0
        zeros += found == 0
        logs += math.log((found or 0.5**zeros) / total)  # (1)
    return 100 * min(1.0, math.exp(1 - r / c)) * math.exp(logs / _ORDER) if zeros < _ORDER else 0.0  # (2)


def words(text: str) -> list[str]:
    """The words of mteval-v13a: marks stand apart, but for a point or a comma between digits."""
    text = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for name, mark in _UNESCAPED:
        text = text.replace(name, mark)
    text = f" {text} "
    for pattern, apart in _APART:
        text = pattern.sub(apart, text)
    return text.split()


def _runs(x: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(x[i : i + n]) for i in range(len(x) - n + 1))
