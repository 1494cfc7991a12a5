"""How well classes are told apart.    predicted, true int [n], or of classes that do not exclude each other 0/1 [n,v]

With C [v,v] the count of examples of true class j that were given class k:

    accuracy = Σ_k C_kk / n                                                                       (1)
    F1_k = 2 C_kk / (Σ_j C_jk + Σ_j C_kj)        the harmonic mean of precision and recall          (2)
    R = (n Σ_k C_kk − Σ_k p_k t_k) / √((n² − Σ p_k²)(n² − Σ t_k²)),   p_k = Σ_j C_jk, t_k = Σ_j C_kj  (3)

F1: van Rijsbergen (1979). R is the correlation of Matthews (1975) of two classes and Gorodkin's (2004) of more.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from npora.nn.module import Array

Average = Literal["binary", "macro", "micro", "weighted"]


def accuracy(predicted: npt.ArrayLike, true: npt.ArrayLike) -> float:
    """The share of examples that are given their class, of several classes all of them and no other.

    Raises
    ------
    ValueError: as all here: no examples, or not as many predictions as labels.
    """
    found, wanted = _pair(predicted, true)
    right = found == wanted
    return float(right.reshape(len(right), -1).all(axis=1).mean())  # (1)


def f1(predicted: npt.ArrayLike, true: npt.ArrayLike, average: Average = "binary") -> float:
    """F1 of class 1 ("binary"), the mean over the classes ("macro"), over the examples' classes ("weighted"), or that
    of all counts together ("micro"). A class that neither is nor is predicted counts as 0, as in scikit-learn.
    """
    found, wanted = _pair(predicted, true)
    if average not in ("binary", "macro", "micro", "weighted"):
        raise ValueError(f"average must be 'binary', 'macro', 'micro' or 'weighted'; got {average!r}")
    if found.ndim == 2:
        both, p, t = (x.sum(axis=0) for x in (found * wanted, found, wanted))  # [v]
    else:
        if average == "binary" and not {*np.unique(found), *np.unique(wanted)} <= {0, 1}:
            raise ValueError("average='binary' is of the classes 0 and 1; of more pass 'macro', 'micro' or 'weighted'")
        classes = [1] if average == "binary" else np.union1d(found, wanted)
        both, p, t = np.array([_counts(found == k, wanted == k) for k in classes]).T  # [v]
    if average == "micro":
        both, p, t = (np.array([x.sum()]) for x in (both, p, t))
    scores = 2 * both / np.maximum(p + t, 1)  # (2)
    return float(np.average(scores, weights=t if average == "weighted" and t.any() else None))


def matthews(predicted: npt.ArrayLike, true: npt.ArrayLike) -> float:
    """The correlation of classes: 1 where all are right, 0 for a guess or where one side has one class alone."""
    found, wanted = _pair(predicted, true)
    n = len(found)
    p, t = (np.array([(x == k).sum() for k in np.union1d(found, wanted)], dtype=float) for x in (found, wanted))
    size = math.sqrt((n * n - p @ p) * (n * n - t @ t))
    return float((n * int((found == wanted).sum()) - p @ t) / size) if size else 0.0  # (3)


def _counts(found: Array, wanted: Array) -> tuple[int, int, int]:
    return int((found & wanted).sum()), int(found.sum()), int(wanted.sum())


def _pair(predicted: npt.ArrayLike, true: npt.ArrayLike) -> tuple[Array, Array]:
    found, wanted = np.asarray(predicted), np.asarray(true)
    if found.shape != wanted.shape or not found.size:
        raise ValueError(f"a prediction and a label are needed for each example; got {found.shape} and {wanted.shape}")
    return found, wanted
