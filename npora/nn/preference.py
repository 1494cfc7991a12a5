"""Losses of preferences: of two texts one was preferred, and the model is to find it likelier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npora.nn.loss import binary_cross_entropy
from npora.nn.module import Array, Pullback
from npora.nn.softmax import log_softmax
from npora.nn.targets import IGNORED, check_targets

PairPullback = Callable[..., tuple[Array, Array]]


def target_log_probs(logits: Array, targets: Array) -> tuple[Array, Pullback]:
    """y_n = log p_n[target_n], 0 where a target is −100.    logits z [n,v]  targets int [n]  →  y [n]

    With p = softmax(z) and q one-hot at the target,

        dz = dy (q − p)        (1)

    as log_softmax has it. Raises ValueError as cross_entropy.
    """
    check_targets(logits, targets, IGNORED)
    log_p, back_log_p = log_softmax(logits)  # [n,v]
    counted = np.flatnonzero(targets != IGNORED)
    at_target = counted, targets[counted]
    y = np.zeros(len(logits), dtype=logits.dtype)
    y[counted] = log_p[at_target]

    def backward(dy: Array) -> Array:
        dlog_p = np.zeros_like(log_p)
        dlog_p[at_target] = dy[counted]
        return back_log_p(dlog_p)  # (1) [n,v]

    return y, backward


def dpo_loss(
    chosen: Array, rejected: Array, reference_chosen: Array, reference_rejected: Array,
    beta: float = 0.1, label_smoothing: float = 0.0,
) -> tuple[Any, PairPullback]:  # fmt: skip
    """ℓ = −1/N Σ ((1 − ε) log σ(u) + ε log σ(−u)) with u = β ((w − w₀) − (l − l₀)).

    chosen w, rejected l [n], the log-probabilities of whole answers; w₀, l₀ [n] those of the model that was begun with,
    which have no gradient; ε = label_smoothing, the share of preferences that are thought wrong  →  ℓ scalar

        du = dℓ (σ(u) − (1 − ε)) / N        (1)
        dw = β du,  dl = −β du              (2)

    (Rafailov et al., 2023; ε: Mitchell, 2023.) At w = w₀ and l = l₀ ℓ is log 2.
    """
    kept_chosen, kept_rejected = (np.asarray(x, chosen.dtype) for x in (reference_chosen, reference_rejected))
    u = beta * ((chosen - kept_chosen) - (rejected - kept_rejected))  # [n]
    loss, back_u = binary_cross_entropy(u, np.full(len(u), 1 - label_smoothing))

    def backward(dloss: Any = 1.0) -> tuple[Array, Array]:
        du = beta * back_u(dloss)  # (1), (2)
        return du, -du

    return loss, backward


def odds_ratio_loss(chosen: Array, rejected: Array) -> tuple[Any, PairPullback]:
    """ℓ = −1/N Σ log σ(o(w) − o(l)) with o(y) = log(p/(1 − p)) = y − log(1 − e^y): ORPO's term beside the chosen text's
    cross-entropy (Hong et al., 2024).

    chosen w, rejected l [n], the mean log-probability of a token of each answer, below 0  →  ℓ scalar. With
    u = o(w) − o(l),

        do/dy = 1 / (1 − e^y)                              (1)
        dw = du · do/dw,  dl = −du · do/dl                 (2)

    Raises ValueError where a log-probability is not below 0: its odds are infinite.
    """
    if (np.maximum(chosen.real, rejected.real) >= 0).any():
        raise ValueError("odds are of log-probabilities below 0")
    left = -np.expm1(chosen), -np.expm1(rejected)  # 1 − p [n]
    u = (chosen - np.log(left[0])) - (rejected - np.log(left[1]))  # [n]
    loss, back_u = binary_cross_entropy(u, np.ones(len(u)))

    def backward(dloss: Any = 1.0) -> tuple[Array, Array]:
        du = back_u(dloss)
        return du / left[0], -du / left[1]  # (1), (2)

    return loss, backward
