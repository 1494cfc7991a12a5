"""The answer to a question, from the scores of a text's tokens to be its first and its last (Devlin et al., 2018,
§4.2).

    score(s, e) = z_s + z′_e,  s ≤ e < s + 30,  both tokens of one window of the text      (1)
    no answer scores the least that z_c + z′_c is in any window, c its class token         (2)
    p(s, e) = e^score(s, e) / Σ e^score over all that could be the answer                  (3)

The likeliest of all is taken, where transformers' run_qa looks among the pairs of the 20 best firsts and lasts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from npora.data.dataset import Example
from npora.nn.module import Array

MOST = 30  # tokens of an answer


def answer_of(windows: Sequence[Example], logits: Sequence[Array], may_be_none: bool = False) -> tuple[str, float]:
    """The answer, "" for none, and its probability.

    windows : of one question, as encode_question makes them; logits [t,2] of each, which may be longer than it
    may_be_none : whether the text need not hold an answer
    """
    best, answer, scores, none = -math.inf, "", [], math.inf
    for window, z in zip(windows, logits, strict=True):
        start, end, places = z[:, 0], z[:, 1], window["places"]  # [t], [t], [k,2]
        none = min(none, float(start[window["class"]] + end[window["class"]]))  # (2)
        first, k = window["first"], len(places)
        for more in range(min(MOST, k)):  # tokens behind the first one
            own = start[first : first + k - more] + end[first + more : first + k]  # (1)
            scores.append(own)
            if (score := float(own.max())) > best:
                s = int(own.argmax())
                best, answer = score, window["text_pair"][places[s][0] : places[s + more][1]].strip()
    if may_be_none:
        scores.append(np.array([none]))
        if none > best:
            best, answer = none, ""
    every = np.concatenate(scores).astype(np.float64)
    return answer, 1 / float(np.exp(every - best).sum())  # (3)


def by_question(parts: Iterable[Example], logits: Iterable[Array]) -> Iterator[tuple[list[Example], list[Array]]]:
    """The windows of each question with their logits. A question begins where a window is the first."""
    windows: list[Example] = []
    own: list[Array] = []
    for part, z in zip(parts, logits, strict=True):
        if part["window"] == 0 and windows:
            yield windows, own
            windows, own = [], []
        windows.append(part)
        own.append(z)
    if windows:
        yield windows, own


def answers_of(
    parts: Iterable[Example], logits: Iterable[Array], may_be_none: bool = False
) -> Iterator[tuple[Mapping[str, Any], str, float]]:
    """Of each question its first window, the answer and the answer's probability."""
    for windows, own in by_question(parts, logits):
        yield windows[0], *answer_of(windows, own, may_be_none)
