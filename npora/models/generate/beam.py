"""Beam search (Lowerre, 1976), with transformers' bookkeeping of what has finished."""

from __future__ import annotations

import numpy as np

from npora.models.generate.continuations import Continuations
from npora.models.generate.processors import Processor
from npora.models.generate.sampling import Warp, best, perturbed
from npora.models.generate.stopping import Ending
from npora.nn.functional import log_softmax
from npora.nn.module import Array

_NONE = -1  # stands where a sequence has no token yet


class Finished:
    """The best sequences of each of b prompts that have ended: n at most, the best first.

    One of length l is worth log p / l^penalty. scores [b,n] is −∞ where there is none, tokens [b,n,most]; `open` [b]
    says for which prompts another may still come in.
    """

    def __init__(self, batch: int, n: int, most: int, penalty: float, early_stopping: bool | str) -> None:
        self.scores = np.full((batch, n), -np.inf)
        self.tokens = np.full((batch, n, most), _NONE)
        self.open = np.ones(batch, dtype=bool)
        self.most, self.penalty, self.early_stopping = most, penalty, early_stopping

    def add(self, log_p: Array, tokens: Array, ended: Array, length: int) -> None:
        """Take in those candidates that have ended, where they are better.    log_p, ended [b,n]  tokens [b,n,most]"""
        worth = np.where(ended & self.open[:, None], log_p / length**self.penalty, -np.inf)
        scores = np.concatenate([self.scores, worth], axis=1)  # [b,2n]
        chosen = best(scores, self.scores.shape[1])  # [b,n]
        self.scores = np.take_along_axis(scores, chosen, axis=1)
        self.tokens = _take(np.concatenate([self.tokens, tokens], axis=1), chosen)

    def close(self, log_p: Array, length: int) -> None:
        """Close the prompts whose n sequences are not likely to be beaten.    log_p [b], of the best that runs on

        What runs on is judged as if it ended now. Since log p falls and a positive penalty favours length, that is a
        guess; "never" takes the most that it could still become. True asks for n sequences and no more.
        """
        longest = self.most if self.early_stopping == "never" and self.penalty > 0 else length
        hope = np.full_like(log_p, -np.inf) if self.early_stopping is True else log_p / longest**self.penalty
        worst = self.scores[:, -1]
        self.open &= (np.isneginf(worst) | (hope > worst)) & (log_p > -np.inf)

    def result(self, pad: int, count: int = 1) -> Array:
        """int [b·count,new], the best of each prompt."""
        tokens = self.tokens[:, :count].reshape(-1, self.most)  # [b·count,most]
        there = tokens != _NONE
        return np.where(there, tokens, pad)[:, : there.sum(axis=1).max()]


def beam_search(
    sequences: Continuations,
    prompts: Array,
    ending: Ending,
    beams: int,
    penalty: float = 1.0,
    early_stopping: bool | str = False,
    process: Processor | None = None,
    warp: Warp | None = None,
    rng: np.random.Generator | None = None,
    count: int = 1,
) -> Array:
    """The `count` most probable continuations of each prompt that are found by following `beams` at once, the best
    first.    prompts int [b,t]  →  int [b·count,new]

    Enough candidates are looked at that `beams` can go on even if the others have ended; only the first `beams` of them
    may finish. With rng the candidates are drawn, without replacement, in place of the best.
    """
    batch, most = len(prompts), ending.most
    finished = Finished(batch, beams, most, penalty, early_stopping)
    tokens, log_p = np.full((batch, 1, most), _NONE), np.zeros((batch, 1))  # one beam to begin with
    for length in range(1, most + 1):
        steps, _ = log_softmax(sequences.logits())  # [b·k,v]
        steps = steps if process is None else process(_ids(prompts, tokens, length - 1), steps)
        steps = steps if warp is None else warp(steps)
        w, v = log_p.shape[1], steps.shape[1]
        sums = (log_p[:, :, None] + steps.reshape(batch, w, v)).reshape(batch, w * v)
        chosen = best(sums if rng is None else perturbed(sums, rng), max(2, 1 + len(ending.ends)) * beams)  # [b,k]
        parents, last = np.divmod(chosen, v)
        log_p, tokens = np.take_along_axis(sums, chosen, axis=1), _take(tokens, parents)
        tokens[:, :, length - 1] = last
        ended = np.isin(last, ending.ends) | (length == most)
        if ending.stop is not None:
            ended |= ending.stop(_ids(prompts, tokens, length)).reshape(ended.shape)
        finished.add(log_p[:, :beams], tokens[:, :beams], ended[:, :beams], length)

        going = min(beams, int((~ended).sum(axis=1).min()))
        if not going:
            break
        # What has ended does not go on, not even where all that is left has no probability.
        running = best(np.where(ended, -np.inf, np.maximum(log_p, np.finfo(log_p.dtype).min)), going)  # [b,k]
        log_p, tokens = np.take_along_axis(log_p, running, axis=1), _take(tokens, running)
        finished.close(log_p[:, 0], length)
        if not finished.open.any():
            break
        rows = np.arange(batch)[:, None] * w + np.take_along_axis(parents, running, axis=1)
        sequences.select(rows.ravel())
        sequences.append(tokens[:, :, length - 1].ravel())
    return finished.result(ending.pad, count)


def _ids(prompts: Array, tokens: Array, length: int) -> Array:
    """Prompts and what is written behind them.    prompts [b,t]  tokens [b,k,most]  →  int [b·k,t+length]"""
    batch, k, _ = tokens.shape
    before = np.broadcast_to(prompts[:, None], (batch, k, prompts.shape[1]))
    return np.concatenate([before, tokens[:, :, :length]], axis=2).reshape(batch * k, -1)  # [b,k,·] → [b·k,·]


def _take(tokens: Array, chosen: Array) -> Array:
    """Each prompt's sequences of these numbers.    tokens [b,n,most]  chosen int [b,k]  →  [b,k,most]"""
    return np.take_along_axis(tokens, chosen[:, :, None], axis=1)
