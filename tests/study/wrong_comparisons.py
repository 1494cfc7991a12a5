"""Of losses that compare embeddings or answers."""

from __future__ import annotations

import numpy as np

from npora.study.exercises import comparisons as right
from tests.study.answers import sigma, total, wrong


def length(x):
    return np.sqrt(total(x * x))


def cosine(dc, a, b, c=1.0, over=1.0):
    u, v = a / length(a), b / length(b)
    along = c * total(u * v)
    return dc[:, None] * (v - along * u) / length(a) ** over, dc[:, None] * (u - along * v) / length(b) ** over


# fmt: off
wrong("cosine_similarity", "lengths as constants", lambda dc, a, b: cosine(dc, a, b, c=0), "the share through `a * a`")
wrong("cosine_similarity", "not divided by the length", lambda dc, a, b: cosine(dc, a, b, over=0), "|a|")
wrong("cosine_similarity", "divided by its square", lambda dc, a, b: cosine(dc, a, b, over=2), "|a|")
wrong("cosine_similarity", "the sign of the second part", lambda dc, a, b: cosine(dc, a, b, c=-1),
      "the share through `a * a`")
wrong("cosine_similarity", "dc forgotten", lambda dc, a, b: cosine(np.ones_like(dc), a, b), "lacks dy",
      "not linear in dy")


def choice(dloss, a, b, scale, own=1.0, turned=True, mean=True, factor=None):
    u, w = a / length(a), b / length(b)
    e = np.exp(scale * u @ w.T)
    dz = dloss * (scale if factor is None else factor) * (e / total(e) - own * np.eye(*e.shape))
    dz = dz / len(a) if mean else dz
    du, dw = dz @ w, dz.T @ u
    if turned:
        du, dw = du - u * total(u * du), dw - w * total(w * dw)
    return du / length(a), dw / length(b)


wrong("ranking", "scale forgotten", lambda dloss, a, b, *, scale: choice(dloss, a, b, scale, factor=1), "scale")
wrong("ranking", "a sum for the mean", lambda dloss, a, b, *, scale: choice(dloss, a, b, scale, mean=False), "N")
wrong("ranking", "lengths as constants", lambda dloss, a, b, *, scale: choice(dloss, a, b, scale, turned=False),
      "the share through `a * a`")
wrong("ranking", "the own candidate forgotten", lambda dloss, a, b, *, scale: choice(dloss, a, b, scale, own=0),
      "the share through `diagonal(e)`")
wrong("ranking", "the sign", lambda dloss, a, b, *, scale: choice(-dloss, a, b, scale), "the sign")


def drawn(dloss, a, p, q, margin, shut=True, mean=True, signs=(1, 1)):
    near, far = length(a - p), length(a - q)
    g = dloss * (near - far + margin > 0 if shut else 1) / (len(a) if mean else 1)
    dp, dq = -signs[0] * g * (a - p) / near, signs[1] * g * (a - q) / far
    return -dp - dq, dp, dq


wrong("triplet", "rows that are shut", lambda dloss, a, p, q, *, margin: drawn(dloss, a, p, q, margin, shut=False),
      "relu is shut")
wrong("triplet", "a sum for the mean", lambda dloss, a, p, q, *, margin: drawn(dloss, a, p, q, margin, mean=False), "N")
wrong("triplet", "the positive alone for a", lambda dloss, a, p, q, *, margin: (
    -drawn(dloss, a, p, q, margin)[1], *drawn(dloss, a, p, q, margin)[1:]), "the share through `far`")
wrong("triplet", "the sign of the negative", lambda dloss, a, p, q, *, margin: drawn(
    dloss, a, p, q, margin, signs=(1, -1)), "the share through `far`", "the sign")
wrong("triplet", "dloss forgotten", lambda dloss, a, p, q, *, margin: drawn(1.0, a, p, q, margin), "lacks dy",
      "not linear in dy")


def ordered(dloss, c, s, scale, one=1.0, factor=None, parts=(1, 1)):
    e = np.exp(scale * (c - c[:, None])) * (s[:, None] > s)
    w = e / (one + e.sum())
    return dloss * (scale if factor is None else factor) * (parts[0] * w.sum(axis=0) - parts[1] * w.sum(axis=1))


wrong("cosent", "scale forgotten", lambda dloss, c, *, s, scale: ordered(dloss, c, s, scale, factor=1), "scale")
wrong("cosent", "the 1 forgotten", lambda dloss, c, *, s, scale: ordered(dloss, c, s, scale, one=0), "(1 + Σ)/Σ")
wrong("cosent", "c_j alone", lambda dloss, c, *, s, scale: ordered(dloss, c, s, scale, parts=(1, 0)),
      "the share of c_i")
wrong("cosent", "c_i alone", lambda dloss, c, *, s, scale: ordered(dloss, c, s, scale, parts=(0, 1)),
      "the share of c_j")
wrong("cosent", "the sign", lambda dloss, c, *, s, scale: ordered(-dloss, c, s, scale), "the sign")


def preferred(dloss, u, within, beta, mean=True):
    dw = -dloss * beta * sigma(-within) / (len(u) if mean else 1)
    return dw, -dw


def change(w, r, w0, r0, beta):
    return beta * ((w - w0) - (r - r0))


wrong("dpo", "β forgotten", lambda dloss, w, r, *, w0, r0, beta: preferred(
    dloss, w, change(w, r, w0, r0, beta), 1), "β")
wrong("dpo", "the reference forgotten", lambda dloss, w, r, *, w0, r0, beta: preferred(
    dloss, w, beta * (w - r), beta), "without the reference")
wrong("dpo", "σ(u)", lambda dloss, w, r, *, w0, r0, beta: preferred(
    dloss, w, -change(w, r, w0, r0, beta), beta), "σ(u)")
wrong("dpo", "a sum for the mean", lambda dloss, w, r, *, w0, r0, beta: preferred(
    dloss, w, change(w, r, w0, r0, beta), beta, mean=False), "N")
wrong("dpo", "one sign for both", lambda dloss, w, r, *, w0, r0, beta: (
    right.dpo_backward(dloss, w, r, w0=w0, r0=r0, beta=beta)[0],) * 2, "the sign")


def odds(dloss, w, r, plain=False, mean=True, turn=1):
    left = 1 - np.exp(w), 1 - np.exp(r)
    u = (w - np.log(left[0])) - (r - np.log(left[1]))
    du = -dloss * sigma(-turn * u) / (len(w) if mean else 1)
    return (du, -du) if plain else (du / left[0], -du / left[1])


wrong("odds_ratio", "1/(1 − p) forgotten", lambda dloss, w, r: odds(dloss, w, r, plain=True), "1 − p of the chosen",
      "the share through `exp(w)`")
wrong("odds_ratio", "σ(u)", lambda dloss, w, r: odds(dloss, w, r, turn=-1), "σ(u)")
wrong("odds_ratio", "a sum for the mean", lambda dloss, w, r: odds(dloss, w, r, mean=False), "N")
wrong("odds_ratio", "log-probabilities for log-odds", lambda dloss, w, r: (
    -dloss * sigma(r - w) / len(w), dloss * sigma(r - w) / len(w)), "not of log-odds")
wrong("odds_ratio", "dloss forgotten", lambda dloss, w, r: odds(1.0, w, r), "lacks dy", "not linear in dy")
