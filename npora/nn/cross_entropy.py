"""Cross-entropy: the loss of a choice among classes."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.machine.blocks import overwritten
from npora.nn.loss import LossPullback
from npora.nn.module import Array, Identities, Named, declares
from npora.nn.targets import check_targets


def _rows_sum_to_zero(inputs: Named, gradients: Named) -> Identities:
    yield "Σ dz = 0", gradients["logits"]


@declares(_rows_sum_to_zero)
def cross_entropy(
    logits: Array, targets: Array, *, ignore_index: int = -100, label_smoothing: float = 0.0
) -> tuple[Any, LossPullback]:
    """ℓ = −1/N Σₙ Σ_v qₙ_v log pₙ_v over the N rows whose target is not `ignore_index`, with p = softmax(logits).

    logits z [n,v]  targets int [n]  →  ℓ scalar. q is one-hot at the target, smoothed to (1 − ε) q + ε/v with
    ε = label_smoothing (Szegedy et al., 2016). As log p_v = z_v − log Σ e^z and Σ_v q_v = 1,

        ℓ = 1/N Σₙ (log Σ e^z − Σ_v q_v z_v)     (1)
        dz = dℓ (p − q) / N                      (2)

    Kept are p, and 1 − p of each row's largest: where that is the target, p − 1 would have lost its digits. With no row
    left ℓ is 0 (torch gives nan). Identity: each row of dz sums to 0, and an ignored row is 0.

    Raises
    ------
    ValueError: shapes that do not fit; a target that is neither ignored nor in [0, v), with its row.
    """
    logits, targets = np.asarray(logits), np.asarray(targets)
    check_targets(logits, targets, ignore_index)
    counted, smooth, n = targets != ignore_index, label_smoothing, np.arange(len(targets))
    at_target = n[counted], targets[counted]
    number = max(int(counted.sum()), 1)  # N
    top = n, logits.real.argmax(axis=-1)
    z = logits - logits[top][:, None]  # [n,v]; neither p nor ℓ changes when all of a row do
    qz = (1 - smooth) * z[at_target] + smooth * z[counted].mean(axis=-1) if smooth else z[at_target]  # Σ_v q z
    p, others, log_total = _softmax(z, top)  # p is where z was
    loss = (log_total[counted] - qz).sum() / number  # (1)

    def backward(dloss: Any = 1.0) -> Array:
        dz = p.copy()
        dz[at_target] -= 1 - smooth  # (2) p − (1 − ε) at the target
        sure = top[1] == targets  # p is largest there, and p − 1 is −others
        dz[n[sure], targets[sure]] = smooth - others[sure]  # (2)
        if smooth:
            dz -= smooth / dz.shape[1]  # (2) − ε/v everywhere
        dz[~counted] = 0
        dz *= np.asarray(dloss / number, dtype=dz.dtype)  # (2) dℓ/N
        return dz

    return loss, backward


def _softmax(z: Array, top: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """Make z, whose rows are 0 at their largest, `top`, the p [n,v] that is returned; and return the others' share
    1 − p_top [n] and log Σ e^z [n].

    With R = Σ e^z over the others, p_top = 1/(1 + R), 1 − p_top = R/(1 + R) and log Σ e^z = log(1 + R): so written, a
    nearly certain answer keeps its digits.
    """
    p = overwritten(np.exp, z)
    p[top] = 0
    rest = p.sum(axis=-1)  # R [n]
    p[top] = 1
    p /= (1 + rest)[:, None]
    return p, rest / (1 + rest), np.log1p(rest)
