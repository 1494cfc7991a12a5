"""Which token comes next: scores warped as transformers warps them, and the choice of the best or of a sample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npora.nn.functional import softmax
from npora.nn.module import Array

Warp = Callable[[Array], Array]


def temperature(scores: Array, T: float) -> Array:
    """z / T: probabilities to the power of 1/T. Below 1 the likely become likelier."""
    return scores / T


def top_k(scores: Array, k: int) -> Array:
    """−∞ for all but the k highest of each row [b,v] (Fan et al., 2018). Those that tie with the k-th stay too."""
    k = min(k, scores.shape[1])
    kth = np.partition(scores, -k, axis=1)[:, -k, None]  # [b,1]
    return _kept(scores, scores >= kth)


def top_p(scores: Array, p: float, at_least: int = 1) -> Array:
    """−∞ for all but the smallest set of each row [b,v] whose probabilities reach p (Holtzman et al., 2020).

    A token goes where it and all that are less likely sum to at most 1 − p. Of tokens that tie, the later ones stay.
    """
    order = np.argsort(scores, axis=1, kind="stable")  # [b,v], the least likely first
    ascending, _ = softmax(np.take_along_axis(scores, order, axis=1))
    keep = ascending.cumsum(axis=1) > 1 - p
    keep[:, -at_least:] = True
    kept = np.empty_like(keep)
    np.put_along_axis(kept, order, keep, axis=1)
    return _kept(scores, kept)


def warper(T: float = 1.0, k: int = 0, p: float = 1.0, at_least: int = 1) -> Warp:
    """Temperature, then top-k, then top-p, as transformers orders them; k = 0 and p = 1 leave scores as they are.

    at_least : how many tokens stay whatever k and p say

    Raises
    ------
    ValueError: T that is not positive, k below 0, p outside [0, 1].
    """
    if not T > 0:
        raise ValueError(f"temperature must be positive; got {T}: for the likeliest tokens leave do_sample out")
    if k < 0 or k != int(k):
        raise ValueError(f"top_k must be a whole number, 0 for all tokens; got {k}")
    if not 0 <= p <= 1:
        raise ValueError(f"top_p must lie in [0, 1]; got {p}")

    def warp(scores: Array) -> Array:  # [b,v] → [b,v]
        scores = temperature(scores, T)
        if k > 0:
            scores = top_k(scores, max(k, at_least))
        return top_p(scores, p, at_least) if p < 1 else scores

    return warp


def best(scores: Array, count: int) -> Array:
    """int [b,count], where each row's highest scores are, the highest first; of equals the earlier comes first."""
    count = min(count, scores.shape[1])

    def places(row: Array) -> Array:
        some = np.flatnonzero(row >= np.partition(row, -count)[-count])  # `count`, and what ties with the last
        return np.asarray(some[np.argsort(-row[some], kind="stable")[:count]])

    return np.stack([places(row) for row in scores])


def perturbed(scores: Array, rng: np.random.Generator) -> Array:
    """Scores plus Gumbel noise. The highest of them is a draw from softmax(scores), the `count` highest are draws
    without replacement (Gumbel, 1954; Kool et al., 2019)."""
    return np.asarray(scores + rng.gumbel(size=scores.shape))


def _kept(scores: Array, keep: Array) -> Array:
    return np.where(keep, scores, np.asarray(-np.inf, dtype=scores.dtype))
