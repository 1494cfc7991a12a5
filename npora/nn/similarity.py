"""How alike two embeddings are, and the losses that draw some together and hold others apart."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from npora.nn.activation import relu
from npora.nn.cross_entropy import cross_entropy
from npora.nn.module import Array, Pullback


def unit(x: Array) -> tuple[Array, Pullback]:
    """û = x / |x|, each row at length 1.    x [...,m]

    Since û moves at right angles to itself alone,

        dx = (dû − û (û · dû)) / |x|    (1)

    Raises ValueError where a row is 0: it has no direction.
    """
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))  # [...,1]; no modulus, so that complex steps see through
    if (length == 0).any():
        raise ValueError("an embedding of zeros has no direction, and so no cosine")
    direction = x / length

    def backward(ddirection: Array) -> Array:
        along = (direction * ddirection).sum(axis=-1, keepdims=True)  # [...,1]
        return (ddirection - direction * along) / length  # (1)

    return direction, backward


def cosine_similarity(u: Array, v: Array) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
    """c = û · v̂, between −1 and 1.    u, v [n,m]  →  c [n]

        dû = dc v̂    dv̂ = dc û        (1)

    and from there as `unit` has it. Identity: c stays when u or v grows, so u · du = v · dv = 0.
    """
    (a, back_a), (b, back_b) = unit(u), unit(v)

    def backward(dc: Array) -> tuple[Array, Array]:
        return back_a(dc[:, None] * b), back_b(dc[:, None] * a)  # (1)

    return (a * b).sum(axis=-1), backward  # [n,m] → [n]


def multiple_negatives_ranking_loss(
    anchors: Array, candidates: Array, scale: float = 20.0
) -> tuple[Any, Callable[..., tuple[Array, Array]]]:
    """ℓ = cross_entropy(z, 0 … n−1) with z = scale û v̂ᵀ: each anchor is to choose its own candidate among all.

    anchors u [n,m]  candidates v [k,m], the first n of which are the anchors' own  →  ℓ scalar

        dû = scale dz v̂        (1)
        dv̂ = scale dzᵀ û       (2)

    (Henderson et al., 2017, on cosines as sentence-transformers takes it. Other sentences of the batch are the wrong
    answers, and so are the candidates behind the first n.) Raises ValueError where there are fewer candidates.
    """
    if len(candidates) < len(anchors):
        raise ValueError(f"{len(anchors)} anchors have a candidate each; got {len(candidates)}")
    (a, back_a), (b, back_b) = unit(anchors), unit(candidates)
    loss, back_loss = cross_entropy(scale * (a @ b.T), np.arange(len(a)))  # [n,k]

    def backward(dloss: Any = 1.0) -> tuple[Array, Array]:
        dz = scale * back_loss(dloss)  # [n,k]
        return back_a(dz @ b), back_b(dz.T @ a)  # (1), (2)

    return loss, backward


def triplet_loss(
    anchor: Array, positive: Array, negative: Array, margin: float = 5.0
) -> tuple[Any, Callable[..., tuple[Array, Array, Array]]]:
    """ℓ = mean relu(|a − p| − |a − q| + margin): what is alike is nearer than what is not, by a margin.

    anchor a, positive p, negative q [n,m]  →  ℓ scalar. With g = dℓ/n where the relu is open, else 0,

        dp = −g (a − p)/|a − p|    dq = g (a − q)/|a − q|    da = −dp − dq        (1)

    (Schroff et al., 2015; Reimers and Gurevych, 2019.) At a distance of 0 the direction is taken as 0.
    """
    (near, towards), (far, away) = _distance(anchor - positive), _distance(anchor - negative)  # [n], [n,m]
    open_, back_relu = relu(near - far + margin)  # [n]
    number = max(len(anchor), 1)

    def backward(dloss: Any = 1.0) -> tuple[Array, Array, Array]:
        g = back_relu(np.full(len(open_), dloss / number, dtype=open_.dtype))[:, None]  # [n,1]
        dpositive, dnegative = -g * towards, g * away  # (1)
        return -dpositive - dnegative, dpositive, dnegative  # (1)

    return open_.sum() / number, backward


def cosent_loss(cosines: Array, scores: Array, scale: float = 20.0) -> tuple[Any, Callable[..., Array]]:
    """ℓ = log(1 + Σ_{i,j: s_i > s_j} e^{scale (c_j − c_i)}): the higher score is to be the more alike.

    cosines c [n] of n pairs, their scores s [n], of which only the order counts  →  ℓ scalar. With
    w_ij = e^{scale (c_j − c_i)} / (1 + Σ) where s_i > s_j, else 0,

        dc_j = scale dℓ (Σ_i w_ij − Σ_i w_ji)        (1)

    (Su, 2022: CoSENT.) Identity: Σ dc = 0, since ℓ stays when all cosines grow alike. Raises ValueError where there are
    not as many scores as cosines.
    """
    s = np.asarray(scores)
    if s.shape != cosines.shape:
        raise ValueError(f"each cosine has a score; got {cosines.shape} and {s.shape}")
    counted = s[:, None] > s[None, :]  # [n,n]
    z = scale * (cosines[None, :] - cosines[:, None])  # [n,n]
    top = max(float(z.real[counted].max(initial=0)), 0.0)
    e = np.exp(np.where(counted, z - top, 0)) * counted  # [n,n]
    total = math.exp(-top) + e.sum()

    def backward(dloss: Any = 1.0) -> Array:
        w = e / total  # [n,n]
        return dloss * scale * (w.sum(axis=0) - w.sum(axis=1))  # (1) [n]

    return top + np.log(total), backward


def _distance(difference: Array) -> tuple[Array, Array]:
    """|x| [n] of x [n,m], and x/|x|."""
    length = np.sqrt((difference * difference).sum(axis=-1))  # [n]
    return length, difference / np.where(length == 0, 1, length)[:, None]
