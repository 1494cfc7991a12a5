"""What changes the scores of the next token by what is written already: transformers' logits processors.

Each is a function of all ids so far, [b,t], the prompts and their padding among them, and of the scores [b,v], and
returns other scores. The rows that continue one prompt stand together.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from npora.nn.module import Array

Processor = Callable[[Array, Array], Array]


def repetition_penalty(penalty: float, prompts: Array) -> Processor:
    """z / ρ where z > 0 and ρ z elsewhere, for tokens that are written already (Keskar et al., 2019).

    prompts : bool [k,t], False at their padding, which is nothing written
    """
    if not penalty > 0:
        raise ValueError(f"repetition_penalty must be positive, 1 for none; got {penalty!r}")

    def process(ids: Array, scores: Array) -> Array:
        written = np.ones(ids.shape, dtype=bool)
        written[:, : prompts.shape[1]] = np.repeat(prompts, len(ids) // len(prompts), axis=0)
        written &= ids < scores.shape[1]  # what fills up may be no token of the vocabulary
        seen = np.zeros(scores.shape, dtype=bool)
        seen[np.nonzero(written)[0], ids[written]] = True
        return np.where(seen, np.where(scores < 0, scores * penalty, scores / penalty), scores)

    return process


def no_repeated_ngrams(n: int) -> Processor:
    """−∞ for a token with which n in a row would stand there a second time (Paulus et al., 2017)."""

    def process(ids: Array, scores: Array) -> Array:
        if ids.shape[1] < n:
            return scores
        there = np.lib.stride_tricks.sliding_window_view(ids, n, axis=1)  # [b,t−n+1,n]
        begun = ids[:, None, ids.shape[1] - n + 1 :]  # [b,1,n−1]
        again = (there[:, :, :-1] == begun).all(axis=2) & (there[:, :, -1] < scores.shape[1])  # [b,t−n+1]
        rows, places = np.nonzero(again)
        banned = np.zeros(scores.shape, dtype=bool)
        banned[rows, there[rows, places, -1]] = True
        return np.where(banned, -math.inf, scores)

    return process


def biased(bias: Mapping[tuple[int, ...], float]) -> Processor:
    """z + bias for the last token of each sequence, where the others stand behind what is written."""

    def process(ids: Array, scores: Array) -> Array:
        total = np.zeros_like(scores)
        for (*begin, last), value in bias.items():
            if len(begin) <= ids.shape[1]:
                total[:, last] += np.where((ids[:, ids.shape[1] - len(begin) :] == begin).all(axis=1), value, 0)
        return np.asarray(scores + total)

    return process


def without(tokens: Sequence[int], until: float = math.inf, since: int = 0) -> Processor:
    """−∞ for these tokens, while there are at least `since` ids and fewer than `until`."""

    def process(ids: Array, scores: Array) -> Array:
        if not since <= ids.shape[1] < until:
            return scores
        scores = scores.copy()
        scores[:, tokens] = -math.inf
        return scores

    return process


def forced(tokens: Sequence[int], at: int) -> Processor:
    """0 for these tokens and −∞ for all others, where there are so many ids."""

    def process(ids: Array, scores: Array) -> Array:
        if ids.shape[1] != at:
            return scores
        scores = np.full_like(scores, -math.inf)
        scores[:, tokens] = 0
        return scores

    return process


def allowed(which: Callable[[int, Array], Any], prompts: int) -> Processor:
    """−∞ for all tokens but which(number of the prompt, ids [t])."""

    def process(ids: Array, scores: Array) -> Array:
        keep = np.zeros(scores.shape, dtype=bool)
        for row, written in enumerate(ids):
            keep[row, np.asarray(which(row * prompts // len(ids), written), dtype=np.int64)] = True
        return np.where(keep, scores, -math.inf)

    return process


def processors(
    chosen: Mapping[str, Any], prompts: Array, most: int, ends: Sequence[int], vocabulary: int
) -> Processor | None:
    """Those that the options ask for, in transformers' order, as one; None where they ask for none.

    prompts : bool [k,t], False at the padding of k prompts; most : how many tokens may come behind them

    Raises
    ------
    ValueError: an option that makes no sense, or a token outside the vocabulary.
    """
    length, ends = prompts.shape[1], [end for end in ends if 0 <= end < vocabulary]

    def tokens(name: str) -> list[int]:
        found = np.atleast_1d(np.asarray([] if chosen[name] is None else chosen[name], dtype=np.int64)).tolist()
        _check_tokens(name, found, vocabulary)
        return list(found)

    shortest = max(chosen["min_length"] or 0, length + chosen["min_new_tokens"] if chosen["min_new_tokens"] else 0)
    if shortest > length + most:
        raise ValueError(
            f"the ids are to be at least {shortest} and at most {length + most}, of which {length} are the prompt: "
            "make min_length or min_new_tokens smaller, or max_new_tokens larger"
        )
    found: list[Processor] = []
    if chosen["sequence_bias"]:
        pairs = chosen["sequence_bias"]
        pairs = pairs.items() if isinstance(pairs, Mapping) else pairs
        found.append(biased(_checked_words("sequence_bias", pairs, vocabulary)))
    if chosen["repetition_penalty"] != 1:
        found.append(repetition_penalty(chosen["repetition_penalty"], prompts))
    if chosen["no_repeat_ngram_size"]:
        found.append(no_repeated_ngrams(chosen["no_repeat_ngram_size"]))
    if chosen["bad_words_ids"]:
        pairs = [(word, -math.inf) for word in chosen["bad_words_ids"] if list(word) not in [[end] for end in ends]]
        found.append(biased(_checked_words("bad_words_ids", pairs, vocabulary)))
    if shortest > length and ends:
        found.append(without(ends, until=shortest))
    if chosen["prefix_allowed_tokens_fn"] is not None:
        found.append(allowed(chosen["prefix_allowed_tokens_fn"], len(prompts)))
    if begin := tokens("forced_bos_token_id"):
        found.append(forced(begin, at=1))
    if end := tokens("forced_eos_token_id"):
        found.append(forced(end, at=length + most - 1))
    if suppressed := tokens("suppress_tokens"):
        found.append(without(suppressed))
    if suppressed := tokens("begin_suppress_tokens"):
        first = length + (length == 1 and bool(begin))
        found.append(without(suppressed, until=first + 1, since=first))
    return _in_order([*found, *(chosen["logits_processor"] or ())])


def _in_order(processors: Sequence[Processor]) -> Processor | None:
    def process(ids: Array, scores: Array) -> Array:
        for each in processors:
            shape, scores = scores.shape, np.asarray(each(ids, scores))
            if scores.shape != shape:
                raise ValueError(f"a logits_processor must return scores {list(shape)}; {_name(each)} returned "
                                 f"{list(scores.shape)}")  # fmt: skip
        if not (scores > -math.inf).any(axis=1).all():
            raise ValueError("the options of generate leave a sequence no token that may come next, or scores of nan")
        return scores

    return process if processors else None


def _checked_words(
    name: str, pairs: Iterable[tuple[Sequence[int], float]], vocabulary: int
) -> dict[tuple[int, ...], float]:
    bias = {tuple(int(token) for token in word): float(value) for word, value in pairs}
    for word in bias:
        if not word:
            raise ValueError(f"{name} holds a sequence without a token: leave it out")
        _check_tokens(name, word, vocabulary)
    return bias


def _check_tokens(name: str, tokens: Iterable[int], vocabulary: int) -> None:
    if outside := [token for token in tokens if not 0 <= token < vocabulary]:
        raise ValueError(f"{name}: the ids of this model are 0 … {vocabulary - 1}; got {outside[0]}")


def _name(each: object) -> str:
    return each.__qualname__ if inspect.isfunction(each) else type(each).__name__
