"""How well numbers are predicted.    predicted, true [n]

With a, b the two sides less their means:

    r = a·b / √(a·a b·b)            Pearson (1895), nan where one side is constant          (1)
    ρ = r of the ranks              Spearman (1904); equal numbers share the mean of their ranks  (2)
    rmse = √(Σ (predicted − true)² / n)                                                     (3)
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from npora.nn.module import Array


def pearson(predicted: npt.ArrayLike, true: npt.ArrayLike) -> float:
    """Raises ValueError, as all here, where there are not as many predictions as labels, or none."""
    a, b = (x - x.mean() for x in _pair(predicted, true))
    size = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / size if size else math.nan  # (1)


def spearman(predicted: npt.ArrayLike, true: npt.ArrayLike) -> float:
    return pearson(*map(_ranks, _pair(predicted, true)))  # (2)


def rmse(predicted: npt.ArrayLike, true: npt.ArrayLike) -> float:
    found, wanted = _pair(predicted, true)
    return float(np.sqrt(np.mean((found - wanted) ** 2)))  # (3)


def _ranks(x: Array) -> Array:
    """½, 1½, … in the order of the numbers; what is added to all of them changes no r.    [n] → [n]"""
    _, places, counts = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - counts / 2)[places]


def _pair(predicted: npt.ArrayLike, true: npt.ArrayLike) -> tuple[Array, Array]:
    found, wanted = np.asarray(predicted, dtype=float).reshape(-1), np.asarray(true, dtype=float).reshape(-1)
    if found.shape != wanted.shape or not found.size:
        raise ValueError(f"a prediction and a label are needed for each example; got {found.size} and {wanted.size}")
    return found, wanted
