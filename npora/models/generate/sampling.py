"""Which token comes next: scores warped as transformers warps them, and the choice of the best or of a sample."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npora.nn.functional import log_softmax, softmax
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


def min_p(scores: Array, share: float, at_least: int = 1) -> Array:
    """−∞ for tokens of less than this share of their row's highest probability (Nguyen et al., 2024)."""
    p, _ = softmax(scores)
    keep = p >= share * p.max(axis=1, keepdims=True)
    np.put_along_axis(keep, best(p, at_least), True, axis=1)
    return _kept(scores, keep)


def typical(scores: Array, mass: float, at_least: int = 1) -> Array:
    """−∞ for all but the fewest tokens that reach this mass, taken by how near their surprise −log p is to its mean,
    the entropy (Meister et al., 2022)."""
    log_p, _ = log_softmax(scores)
    p = np.exp(log_p)
    entropy = -np.multiply(p, log_p, out=np.zeros_like(p), where=p > 0).sum(axis=1, keepdims=True)  # [b,1]
    far = np.abs(log_p + entropy)
    order = np.argsort(far, axis=1, kind="stable")  # [b,v], the most typical first
    reached = np.take_along_axis(p, order, axis=1).cumsum(axis=1) < mass
    last = np.minimum(reached.sum(axis=1, keepdims=True), p.shape[1] - 1)  # [b,1]
    keep = far <= np.take_along_axis(far, np.take_along_axis(order, last, axis=1), axis=1)
    np.put_along_axis(keep, order[:, :at_least], True, axis=1)
    return _kept(scores, keep)


def epsilon_cutoff(scores: Array, epsilon: float, at_least: int = 1) -> Array:
    """−∞ for tokens of a probability below epsilon (Hewitt et al., 2022)."""
    p, _ = softmax(scores)
    few = np.take_along_axis(scores, best(scores, at_least), axis=1)[:, -1:]  # [b,1]
    return _kept(scores, (p >= epsilon) | (scores >= few))


def warper(
    T: float = 1.0,
    k: int = 0,
    p: float = 1.0,
    share: float | None = None,
    mass: float = 1.0,
    epsilon: float = 0.0,
    at_least: int = 1,
) -> Warp:
    """Temperature, then top-k, top-p, min-p, typical-p and epsilon's cut, as transformers orders them; what is left at
    its default leaves scores as they are.

    at_least : how many tokens stay whatever the others say

    Raises
    ------
    ValueError: T that is not positive, k below 0, any of the others outside [0, 1].
    """
    if not T > 0:
        raise ValueError(f"temperature must be positive; got {T}: for the likeliest tokens leave do_sample out")
    if k < 0 or k != int(k):
        raise ValueError(f"top_k must be a whole number, 0 for all tokens; got {k}")
    for name, value in (("top_p", p), ("min_p", share or 0), ("typical_p", mass), ("epsilon_cutoff", epsilon)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1]; got {value}")

    def warp(scores: Array) -> Array:  # [b,v] → [b,v]
        scores = temperature(scores, T)
        if k > 0:
            scores = top_k(scores, max(k, at_least))
        scores = top_p(scores, p, at_least) if p < 1 else scores
        scores = min_p(scores, share, at_least) if share else scores
        scores = typical(scores, mass, at_least) if mass < 1 else scores
        return epsilon_cutoff(scores, epsilon, at_least) if 0 < epsilon < 1 else scores

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
