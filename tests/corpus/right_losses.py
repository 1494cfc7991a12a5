"""Losses, and densities and distances of statistics."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import apart, between, coin, definite, fixed, n, pair, right, rising, scaled, whole

X, T = n(4, 3), n(4, 3)
P = between(0.3, 3, 4, 3)


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _hot(targets, classes=3):
    return np.eye(classes)[targets]


# fmt: off
pair("mean squared error", [X, T], lambda x, t: ((x - t) ** 2).mean(), lambda dy, x, t: (
    dy * (x - t) / 6, dy * (t - x) / 6))
pair("mean absolute error", [X, T], lambda x, t: np.abs(x - t).mean(), lambda dy, x, t: (
    dy * np.sign(x - t) / 12, dy * np.sign(t - x) / 12))
pair("huber", [X], lambda x: np.where(np.abs(x) < 0.7, x * x / 2, 0.7 * (np.abs(x) - 0.35)).sum(), lambda dy, x: (
    dy * np.clip(x, -0.7, 0.7)))
pair("pseudo huber", [X, T], lambda x, t: np.sqrt(1 + (x - t) ** 2).sum(-1) - 3, lambda dy, x, t: (
    dy[:, None] * (x - t) / np.sqrt(1 + (x - t) ** 2), dy[:, None] * (t - x) / np.sqrt(1 + (x - t) ** 2)))
pair("pinball", [X, T], lambda x, t: np.maximum(0.3 * (t - x), -0.7 * (t - x)).sum(), lambda dy, x, t: (
    dy * np.where(t > x, -0.3, 0.7), dy * np.where(t > x, 0.3, -0.7)))
pair("cross entropy", [X, whole(3, 4)], lambda x, t: -np.log(_softmax(x))[np.arange(4), t].mean(), lambda dy, x, t: (
    dy * (_softmax(x) - _hot(t)) / 4, None))
pair("weighted cross entropy", [X, whole(3, 4), between(0.3, 2, 3)],
     lambda x, t, w: -(w[t] * np.log(_softmax(x))[np.arange(4), t]).sum() / w[t].sum(),
     lambda dy, x, t, w: _weighted(dy, x, t, w))
pair("smoothed cross entropy", [X, whole(3, 4)], lambda x, t: -(
    (0.9 * _hot(t) + 0.1 / 3) * np.log(_softmax(x))).sum(-1), lambda dy, x, t: (
    dy[:, None] * (_softmax(x) - 0.9 * _hot(t) - 0.1 / 3), None))
pair("binary cross entropy", [X, coin(4, 3)], lambda x, t: np.where(t, np.logaddexp(0, -x), np.logaddexp(0, x)).sum(0),
     lambda dy, x, t: (dy * (_sigmoid(x) - t), None))
pair("focal loss", [X], lambda x: (-((1 - _sigmoid(x)) ** 2) * np.log(_sigmoid(x))).sum(), lambda dy, x: dy * (
    2 * (1 - _sigmoid(x)) ** 2 * _sigmoid(x) * np.log(_sigmoid(x)) - (1 - _sigmoid(x)) ** 3))
pair("hinge", [X, whole(3, 4)], lambda x, t: np.maximum(0, 1 - x * (2 * _hot(t) - 1)).sum(), lambda dy, x, t: (
    -dy * (2 * _hot(t) - 1) * (x * (2 * _hot(t) - 1) < 1), None))
pair("multiclass margin", [X, whole(3, 4)], lambda x, t: np.maximum(
    0, 1 + x - x[np.arange(4), t][:, None]).sum() - 4, lambda dy, x, t: (_margin(dy, x, t), None))
pair("triplet margin", [X, T, n(4, 3)], lambda a, p, q: np.maximum(
    0, 1 + ((a - p) ** 2).sum(-1) - ((a - q) ** 2).sum(-1)), lambda dy, a, p, q: _triplet(dy, a, p, q))
pair("contrastive by a temperature", [n(4, 3), n(4, 3), between(0.5, 1.5)], lambda a, b, t: -np.log(
    np.diag(_softmax(a @ b.T / t))).mean(), lambda dy, a, b, t: _contrastive(dy, a, b, t))
pair("preference", [n(5), n(5)], lambda c, r: -np.log(_sigmoid(0.5 * (c - r))).mean(), lambda dy, c, r: (
    -dy * _sigmoid(0.5 * (r - c)) / 10, dy * _sigmoid(0.5 * (r - c)) / 10))
pair("clipped surrogate", [n(6), n(6)], lambda d, a: np.minimum(np.exp(d) * a, np.clip(np.exp(d), 0.8, 1.2) * a).sum(),
     lambda dy, d, a: (dy * a * np.exp(d) * _flows(d, a), dy * np.where(
         _flows(d, a), np.exp(d), np.clip(np.exp(d), 0.8, 1.2))))
pair("dice", [between(0.05, 0.95, 6), coin(6)], lambda p, t: 1 - 2 * (p * t).sum() / (p.sum() + t.sum()),
     lambda dy, p, t: (
    -2 * dy * (t * (p.sum() + t.sum()) - (p * t).sum()) / (p.sum() + t.sum()) ** 2, None))
pair("relative entropy of logits", [X, T], lambda x, z: (_softmax(x) * np.log(_softmax(x) / _softmax(z))).sum(-1),
     lambda dy, x, z: (dy[:, None] * _softmax(x) * (np.log(_softmax(x) / _softmax(z)) - (
         _softmax(x) * np.log(_softmax(x) / _softmax(z))).sum(-1, keepdims=True)),
         dy[:, None] * (_softmax(z) - _softmax(x))))
pair("poisson deviance", [X, P], lambda x, t: (np.exp(x) - t * x).mean(), lambda dy, x, t: (
    dy * (np.exp(x) - t) / 12, -dy * x / 12))
pair("gaussian log density", [X, n(3), n(3)], lambda x, m, s: (-(((x - m) * np.exp(-s)) ** 2) / 2 - s).sum(-1),
     lambda dy, x, m, s: (-dy[:, None] * (x - m) * np.exp(-2 * s), (dy[:, None] * (x - m) * np.exp(-2 * s)).sum(0),
                          (dy[:, None] * (((x - m) * np.exp(-s)) ** 2 - 1)).sum(0)))
pair("relative entropy of gaussians", [n(3), n(3)], lambda m, s: (np.exp(2 * s) + m * m - 1 - 2 * s).sum() / 2,
     lambda dy, m, s: (dy * m, dy * (np.exp(2 * s) - 1)))
pair("laplace log density", [X, between(0.5, 2, 3)], lambda x, b: -np.abs(x) / b - np.log(2 * b), lambda dy, x, b: (
    -dy * np.sign(x) / b, (dy * (np.abs(x) / b**2 - 1 / b)).sum(0)))
pair("student log density", [X, between(2, 5)], lambda x, v: (-(v + 1) / 2 * np.log1p(x * x / v)).sum(),
     lambda dy, x, v: (-dy * (v + 1) * x / (v + x * x), np.asarray(
         dy * (-np.log1p(x * x / v) / 2 + (v + 1) / 2 * x * x / (v * v + v * x * x)).sum())))
pair("wasserstein by sorting", [apart(6), apart(6)], lambda x, z: ((np.sort(x) - np.sort(z)) ** 2).mean(),
     lambda dy, x, z: (
    dy * (x - np.sort(z)[x.argsort().argsort()]) / 3, dy * (z - np.sort(x)[z.argsort().argsort()]) / 3))
pair("energy distance", [n(4), n(3)], lambda x, z: 2 * np.abs(x[:, None] - z).mean() - np.abs(x[:, None] - x).mean(),
     lambda dy, x, z: (dy * (np.sign(x[:, None] - z).sum(1) / 6 - np.sign(x[:, None] - x).sum(1) / 8),
                       -dy * np.sign(x[:, None] - z).sum(0) / 6))
pair("kernel mean discrepancy", [n(4, 2), n(3, 2)], lambda x, z: _kernel(x, x).mean() - 2 * _kernel(x, z).mean(),
     lambda dy, x, z: _discrepancy(dy, x, z))
pair("correlation coefficient", [n(6), n(6)], lambda x, z: np.corrcoef(x, z)[0, 1],
     lambda dy, x, z: _correlation(dy, x, z))
pair("covariance matrix", [n(5, 3)], lambda x: np.cov(x.T), lambda dy, x: (x - x.mean(0)) @ (dy + dy.T) / 4)
pair("proportional hazards", [n(6), rising(6)], lambda x, t: np.log(np.cumsum(np.exp(x)[::-1])).sum() - x @ np.sqrt(t),
     lambda dy, x, t: (dy * (np.exp(x) * np.cumsum(1 / np.cumsum(np.exp(x)[::-1])[::-1]) - np.sqrt(t)),
                       -dy * x / (2 * np.sqrt(t))))
pair("squared error at any scale", [scaled(n(5), 70)], lambda x: x @ x / 5, lambda dy, x: 2 * dy * x / 5)
pair("soft ranks", [n(5)], lambda x: _sigmoid(x[:, None] - x).sum(1), lambda dy, x: (
    _sigmoid(x[:, None] - x) * _sigmoid(x - x[:, None]) * (dy[:, None] - dy)).sum(1))
pair("sparsemax", [n(3, 5)], lambda x: _sparsemax(x), lambda dy, x: (
    (_sparsemax(x) > 0) * (dy - (dy * (_sparsemax(x) > 0)).sum(-1, keepdims=True)
                           / (_sparsemax(x) > 0).sum(-1, keepdims=True))))
# fmt: on


def _weighted(dy, x, t, w):
    losses = -np.log(_softmax(x))[np.arange(4), t]
    y = (w[t] * losses).sum() / w[t].sum()
    dx = dy * w[t][:, None] * (_softmax(x) - _hot(t)) / w[t].sum()
    return dx, None, np.bincount(t, dy * (losses - y) / w[t].sum(), 3)


def _margin(dy, x, t):
    on = (1 + x - x[np.arange(4), t][:, None] > 0) & (_hot(t) == 0)
    return dy * (on - _hot(t) * on.sum(1, keepdims=True))


def _triplet(dy, a, p, q):
    d = (dy * (1 + ((a - p) ** 2).sum(-1) > ((a - q) ** 2).sum(-1)))[:, None]
    return 2 * d * (q - p), 2 * d * (p - a), 2 * d * (a - q)


def _contrastive(dy, a, b, t):
    ds = dy * (_softmax(a @ b.T / t) - np.eye(4)) / 4
    return ds @ b / t, ds.T @ a / t, np.asarray(-(ds * (a @ b.T)).sum() / t**2)


def _flows(d, a):
    r = np.exp(d)
    return r * a <= np.clip(r, 0.8, 1.2) * a


def _kernel(x, z):
    return np.exp(-((x[:, None] - z) ** 2).sum(-1))


def _discrepancy(dy, x, z):
    own, other = _kernel(x, x)[..., None] * (x[:, None] - x), _kernel(x, z)[..., None] * (x[:, None] - z)
    return dy * (-4 * own.sum(1) / 16 + 4 * other.sum(1) / 12), -4 * dy * other.sum(0) / 12


def _correlation(dy, x, z):
    a, b = x - x.mean(), z - z.mean()
    a, b, sa, sb = a / np.sqrt(a @ a), b / np.sqrt(b @ b), np.sqrt(a @ a), np.sqrt(b @ b)
    return dy * (b - (a @ b) * a) / sa, dy * (a - (a @ b) * b) / sb


def _sparsemax(x):
    s = -np.sort(-x, -1)
    total = np.cumsum(s, -1) - 1
    k = (s * np.arange(1, 6) > total).sum(-1)[:, None]
    return np.maximum(x - np.take_along_axis(total, k - 1, -1) / k, 0)


@right(n(4), n(4), definite(4, 10))
def mahalanobis(x, m, S):
    """q = S⁻¹(x − m):    dx = 2 dy q,  dS = −dy q qᵀ"""
    q = np.linalg.solve(S, x - m)
    return (x - m) @ q, lambda dy: (2 * dy * q, -2 * dy * q, -dy * np.outer(q, q))


@right(n(3), definite(3, 10))
def gaussian_log_likelihood(x, S):
    """−½(xᵀS⁻¹x + log|S|):    dS = ½(q qᵀ − S⁻ᵀ) dy"""
    q = np.linalg.solve(S, x)
    y = -(x @ q + np.linalg.slogdet(S)[1]) / 2
    return y, lambda dy: (
        -dy * (q + np.linalg.solve(S.T, x)) / 2,
        dy * (np.outer(np.linalg.solve(S.T, x), q) - np.linalg.inv(S).T) / 2,
    )


@right(n(3, 4), n(3, 4))
def sinkhorn(C, z):
    """Six rescalings of rows and columns of exp(−C), then ⟨P, z⟩; each is undone in reverse."""
    K, kept = np.exp(-C), []
    P = K
    for step in range(6):
        axis = step % 2
        total = P.sum(axis, keepdims=True)
        P = P / total
        kept.append((P, total, axis))

    def backward(dy):
        dP = dy * z
        for Q, total, axis in kept[::-1]:
            dP = (dP - (dP * Q).sum(axis, keepdims=True)) / total
        return -dP * K, dy * P

    return (P * z).sum(), backward


@right(n(5, 3))
def listwise_ranking(x):
    """Plackett-Luce of the given order:    −Σ log softmax over those not yet chosen"""
    losses = np.log(np.cumsum(np.exp(x)[::-1], 0)[::-1]) - x
    share = fixed(3)

    def backward(dy):
        tails = np.cumsum(np.exp(x)[::-1], 0)[::-1]
        return dy * share * (np.exp(x) * np.cumsum(1 / tails, 0) - 1)

    return (losses * share).sum(), backward
