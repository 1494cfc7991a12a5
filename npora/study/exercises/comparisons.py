"""Losses that compare: embeddings of texts that are alike or not, and answers of which one was preferred."""

from __future__ import annotations

from typing import Any

import numpy as np

from npora.nn import functional as F
from npora.nn.module import Array
from npora.study.exercises.declared import Argument, Exercise, given, normal


def _length(x: Array) -> Array:
    return np.sqrt((x * x).sum(axis=-1, keepdims=True))


def _sigma(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def cosine_similarity(a: Array, b: Array) -> Array:
    """c_n = a_n · b_n / (|a_n| |b_n|).    a [n,m]  b [n,m]  →  c [n]"""
    lengths = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    return (a * b).sum(axis=-1) / lengths


def cosine_similarity_backward(dc: Array, a: Array, b: Array) -> tuple[Array, Array]:
    u, v = a / _length(a), b / _length(b)
    c = (u * v).sum(axis=-1, keepdims=True)
    return dc[:, None] * (v - c * u) / _length(a), dc[:, None] * (u - c * v) / _length(b)


def cosine_similarity_named(dc: Array, a: Array, b: Array) -> dict[str, Any]:
    u, v = a / _length(a), b / _length(b)
    c = (u * v).sum(axis=-1, keepdims=True)
    return {
        "|a|": _length(a), "|b|": _length(b), "|a|²": _length(a) ** 2, "c": c,
    }  # fmt: skip


def ranking(a: Array, b: Array, *, scale: float) -> Array:
    """ℓ = −1/N Σₙ log pₙ[n] with p = softmax(scale â b̂ᵀ) of each of the N rows, where â = a/|a| and b̂ = b/|b|.

    anchors a [n,m]  candidates b [v,m], the first N of which are the anchors' own  →  ℓ
    """
    u = a / np.sqrt((a * a).sum(axis=-1, keepdims=True))
    w = b / np.sqrt((b * b).sum(axis=-1, keepdims=True))
    z = scale * u @ w.T
    e = np.exp(z)
    return -np.log(np.diagonal(e) / e.sum(axis=-1)).mean()


def _ranking_dz(a: Array, b: Array, scale: float) -> tuple[Array, Array, Array]:
    u, w = a / _length(a), b / _length(b)
    e = np.exp(scale * u @ w.T)
    p = e / e.sum(axis=-1, keepdims=True)
    return p - np.eye(*p.shape), u, w


def _direction(dx: Array, x: Array) -> Array:
    """From the gradient of x/|x| to that of x."""
    u = x / _length(x)
    return (dx - u * (u * dx).sum(axis=-1, keepdims=True)) / _length(x)


def ranking_backward(dloss: Array, a: Array, b: Array, *, scale: float) -> tuple[Array, Array]:
    dz, u, w = _ranking_dz(a, b, scale)
    each = dloss * scale * dz / len(a)
    return _direction(each @ w, a), _direction(each.T @ u, b)


def ranking_named(dloss: Array, a: Array, b: Array, *, scale: float) -> dict[str, Any]:
    return {"N": len(a), "scale": scale, "dℓ": float(dloss), "|a|": _length(a), "|b|": _length(b)}


def triplet(a: Array, p: Array, q: Array, *, margin: float) -> Array:
    """ℓ = 1/N Σₙ relu(|a − p| − |a − q| + margin): p is like a, and q is not.

    anchor a [n,m]  positive p [n,m]  negative q [n,m]  →  ℓ
    """
    near = np.sqrt(((a - p) ** 2).sum(axis=-1))
    far = np.sqrt(((a - q) ** 2).sum(axis=-1))
    x = near - far + margin
    return (x * (x > 0)).mean()


def _triplet(dloss: Array, a: Array, p: Array, q: Array, margin: float) -> tuple[Array, Array, Array]:
    near, far = _length(a - p), _length(a - q)
    return dloss * (near - far + margin > 0) / len(a), (a - p) / near, (a - q) / far


def triplet_backward(dloss: Array, a: Array, p: Array, q: Array, *, margin: float) -> tuple[Array, Array, Array]:
    g, towards, away = _triplet(dloss, a, p, q, margin)
    return g * (towards - away), -g * towards, g * away


def triplet_named(dloss: Array, a: Array, p: Array, q: Array, *, margin: float) -> dict[str, Any]:
    g, towards, away = _triplet(dloss, a, p, q, margin)
    return {
        "N": len(a), "dℓ": float(dloss), "the rows where the relu is open": int(g.any(axis=-1).sum()),
        "|a − p|": _length(a - p), "|a − q|": _length(a - q),
        "the gradient where the relu is shut, too": dloss * (towards - away) / len(a),
        "the gradient by p where the relu is shut, too": -dloss * towards / len(a),
    }  # fmt: skip


def cosent(c: Array, *, s: Array, scale: float) -> Array:
    """ℓ = log(1 + Σ_{i,j: s_i > s_j} e^(scale (c_j − c_i))): the order of the cosines is to be that of the scores.

    cosines c [n]  scores s [n]  →  ℓ
    """
    counted = s[:, None] > s
    return np.log(1 + (np.exp(scale * (c - c[:, None])) * counted).sum())


def _cosent(c: Array, s: Array, scale: float) -> Array:
    e = np.exp(scale * (c - c[:, None])) * (s[:, None] > s)
    w: Array = e / (1 + e.sum())
    return w


def cosent_backward(dloss: Array, c: Array, *, s: Array, scale: float) -> Array:
    w = _cosent(c, s, scale)
    return dloss * scale * (w.sum(axis=0) - w.sum(axis=1))


def cosent_named(dloss: Array, c: Array, *, s: Array, scale: float) -> dict[str, Any]:
    w = _cosent(c, s, scale)
    return {
        "scale": scale, "dℓ": float(dloss), "1 + Σ": 1 / (1 - w.sum()), "(1 + Σ)/Σ": 1 / w.sum(),
        "the share of c_j": dloss * scale * w.sum(axis=0), "the share of c_i": -dloss * scale * w.sum(axis=1),
    }  # fmt: skip


def dpo(w: Array, r: Array, *, w0: Array, r0: Array, beta: float) -> Array:
    """ℓ = −1/N Σₙ log σ(uₙ) with u = β ((w − w₀) − (r − r₀)): the chosen answer is to have become the likelier.

    log-probabilities w [n] of the chosen answers and r [n] of the rejected ones, and of both under the model that was
    begun with, w0 [n] and r0 [n]  →  ℓ
    """
    u = beta * ((w - w0) - (r - r0))
    return np.log1p(np.exp(-u)).mean()


def dpo_backward(dloss: Array, w: Array, r: Array, *, w0: Array, r0: Array, beta: float) -> tuple[Array, Array]:
    u = beta * ((w - w0) - (r - r0))
    dw = -dloss * beta * _sigma(-u) / len(u)
    return dw, -dw


def dpo_named(dloss: Array, w: Array, r: Array, *, w0: Array, r0: Array, beta: float) -> dict[str, Any]:
    u = beta * ((w - w0) - (r - r0))
    each = -dloss * beta / len(u)
    return {
        "N": len(u), "β": beta, "dℓ": float(dloss), "σ(−u)": _sigma(-u), "σ(u)": _sigma(u),
        "the gradient with σ(u) in the place of σ(−u)": each * _sigma(u),
        "the gradient without the reference": each * _sigma(-beta * (w - r)),
        "the gradient without β within σ": each * _sigma(-u / beta),
    }  # fmt: skip


def odds_ratio(w: Array, r: Array) -> Array:
    """ℓ = −1/N Σₙ log σ(o(wₙ) − o(rₙ)) with the log-odds o(y) = log(p/(1 − p)) = y − log(1 − e^y) of y = log p.

    mean log-probabilities, below 0, w [n] of a token of the chosen answers and r [n] of the rejected ones  →  ℓ
    """
    u = (w - np.log(1 - np.exp(w))) - (r - np.log(1 - np.exp(r)))
    return np.log1p(np.exp(-u)).mean()


def odds_ratio_backward(dloss: Array, w: Array, r: Array) -> tuple[Array, Array]:
    left = 1 - np.exp(w), 1 - np.exp(r)
    du = -dloss * _sigma(-((w - np.log(left[0])) - (r - np.log(left[1])))) / len(w)
    return du / left[0], -du / left[1]


def odds_ratio_named(dloss: Array, w: Array, r: Array) -> dict[str, Any]:
    left = 1 - np.exp(w), 1 - np.exp(r)
    u = (w - np.log(left[0])) - (r - np.log(left[1]))
    each = -dloss / len(w)
    return {
        "N": len(w), "dℓ": float(dloss), "1 − p of the chosen": left[0], "1 − p of the rejected": left[1],
        "p of the chosen": np.exp(w), "σ(−u)": _sigma(-u),
        "the gradient with σ(u) in the place of σ(−u)": each * _sigma(u) / left[0],
        "the gradient of log-probabilities, not of log-odds": each * _sigma(-(w - r)),
    }  # fmt: skip


_PAIR = {"a": normal("n m"), "b": normal("n m")}
_SCORES = given(np.array([2.0, 0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 1.0, 4.0, 2.0]), axes="n")
_BELOW_0 = Argument("n", lambda r, k: -r.uniform(0.2, 2, 5))

EXERCISES = (
    Exercise(
        cosine_similarity_backward,
        "A cosine does not change when a vector grows, only when it turns.",
        (
            "Write c = û · v̂ of the directions û = a/|a| and v̂ = b/|b|. What does û do when a moves along itself?",
            "Nothing: dû = dc v̂, and of it only what is at right angles to û reaches a, divided by |a|.",
            "v̂ less its part along û is v̂ − c û. For b change the two places.",
        ),
        _PAIR,
        cosine_similarity,
        dy="n",
        named=cosine_similarity_named,
        page=F.cosine_similarity,
    ),
    Exercise(
        ranking_backward,
        "Each anchor is to choose its own candidate among all of the batch: a cross-entropy whose logits are cosines.",
        (
            "Which gradient has a cross-entropy by its logits z? And z = scale û ŵᵀ, by û and by ŵ?",
            "dz = (p − 1 at the own candidate)/N times dloss; dû = scale dz ŵ, dŵ = scale dzᵀ û.",
            "Then from each direction to its vector: dx = (dû − û (û · dû))/|x|, row by row.",
        ),
        {"a": normal("n m"), "b": normal("v m"), "scale": given(3.0, 2.0)},
        ranking,
        dy="",
        named=ranking_named,
        page=F.multiple_negatives_ranking_loss,
    ),
    Exercise(
        triplet_backward,
        "The positive is to be nearer than the negative, by a margin; where it is, nothing is to be learnt.",
        (
            "Where the relu is shut its row has no gradient. Elsewhere: what is the derivative of |x| by x?",
            "The direction x/|x|. Let g be dloss/N where the relu is open, and 0 else.",
            "dp = −g (a − p)/|a − p|, dq = g (a − q)/|a − q|, and a takes what both give away: da = −dp − dq.",
        ),
        {"a": normal("n m"), "p": normal("n m"), "q": normal("n m"), "margin": given(0.3, 0.8)},
        triplet,
        dy="",
        named=triplet_named,
        page=F.triplet_loss,
    ),
    Exercise(
        cosent_backward,
        "Of two pairs of texts the one with the higher score is to have the higher cosine, by how much is left open.",
        (
            "Each c stands in many exponents: with a plus where its score is the lower, with a minus where it is the "
            "higher.",
            "With w_ij = e^(scale (c_j − c_i))/(1 + Σ) where s_i > s_j, and else 0: what is ∂ℓ/∂(c_j − c_i)?",
            "It is scale w_ij. So dc is scale dloss times the sums of w over i less its sums over j.",
        ),
        {"c": normal("n"), "s": _SCORES, "scale": given(0.7, 1.5)},
        cosent,
        dy="",
        named=cosent_named,
        page=F.cosent_loss,
    ),
    Exercise(
        dpo_backward,
        "What counts is by how much each answer became likelier; the model that was begun with is a constant.",
        (
            "What is the derivative of −log σ(u) by u?",
            "It is −σ(−u) = σ(u) − 1. It is small where the chosen answer is ahead already.",
            "u has w with the factor β, and r with −β; the mean divides by N.",
        ),
        {"w": normal("n"), "r": normal("n"), "w0": normal("n"), "r0": normal("n"), "beta": given(0.7, 0.3)},
        dpo,
        dy="",
        named=dpo_named,
        page=F.dpo_loss,
    ),
    Exercise(
        odds_ratio_backward,
        "ORPO compares the odds p/(1 − p) of both answers: no other model is needed.",
        (
            "What is the derivative of o(y) = y − log(1 − e^y) by y?",
            "1 + e^y/(1 − e^y) = 1/(1 − e^y) = 1/(1 − p).",
            "du = −dloss σ(−u)/N; dw is du/(1 − e^w), and dr the same of r with the other sign.",
        ),
        {"w": _BELOW_0, "r": _BELOW_0},
        odds_ratio,
        dy="",
        named=odds_ratio_named,
        page=F.odds_ratio_loss,
    ),
)  # fmt: skip
