"""Sums, means, norms, orders: from many elements to fewer, or along an axis."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import apart, between, fixed, n, pair, right, rising, scaled

X = n(3, 5)
P = between(0.3, 3, 3, 5)
WEIGHTS = fixed(5)


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _at(x, index, dy):
    """dy put at the places that argsort or argmax named, along the last axis."""
    dx = np.zeros_like(x)
    np.put_along_axis(dx, index, dy, -1)
    return dx


# fmt: off
pair("sum of all", [X], np.sum, lambda dy, x: dy * np.ones_like(x))
pair("mean along rows", [scaled(X)], lambda x: x.mean(-1), lambda dy, x: dy[:, None] / 5 + 0 * x)
pair("product of all", [P], lambda x: x.prod(-1), lambda dy, x: dy[:, None] * x.prod(-1, keepdims=True) / x)
pair("euclidean norm", [X], lambda x: np.linalg.norm(x, axis=-1), lambda dy, x: (
    dy[:, None] * x / np.linalg.norm(x, axis=-1, keepdims=True)
))
pair("norm of power 3", [X], lambda x: (np.abs(x) ** 3).sum(-1) ** (1 / 3), lambda dy, x: (
    dy[:, None] * x * np.abs(x) / (np.abs(x) ** 3).sum(-1, keepdims=True) ** (2 / 3)
))
pair("taxicab norm", [X], lambda x: np.abs(x).sum(0), lambda dy, x: dy * np.sign(x))
pair("largest magnitude", [X], lambda x: np.abs(x).max(-1), lambda dy, x: _at(
    x, np.abs(x).argmax(-1)[:, None], (dy * np.sign(np.take_along_axis(x, np.abs(x).argmax(-1)[:, None], -1))[:, 0])
    [:, None]))
pair("smallest", [X], lambda x: x.min(-1), lambda dy, x: _at(x, x.argmin(-1)[:, None], dy[:, None]))
pair("log sum exp", [X], lambda x: np.log(np.exp(x).sum(-1)), lambda dy, x: dy[:, None] * _softmax(x))
pair("variance", [X], lambda x: ((x - x.mean(-1, keepdims=True)) ** 2).mean(-1), lambda dy, x: (
    dy[:, None] * 2 * (x - x.mean(-1, keepdims=True)) / 5
))
pair("standard deviation", [X], lambda x: x.std(-1, ddof=1), lambda dy, x: (
    dy[:, None] * (x - x.mean(-1, keepdims=True)) / (4 * x.std(-1, ddof=1, keepdims=True))
))
pair("cumulative sum", [X], lambda x: np.cumsum(x, -1), lambda dy, x: np.cumsum(dy[:, ::-1], -1)[:, ::-1])
pair("cumulative product", [P], lambda x: np.cumprod(x, -1), lambda dy, x: (
    np.cumsum((dy * np.cumprod(x, -1))[:, ::-1], -1)[:, ::-1] / x
))
pair("median", [X], lambda x: np.median(x, -1), lambda dy, x: _at(x, x.argsort(-1)[:, 2:3], dy[:, None]))
pair("even median", [n(3, 6)], lambda x: np.median(x, -1), lambda dy, x: _at(
    x, x.argsort(-1)[:, 2:4], np.stack([dy, dy], -1) / 2))
pair("quantile", [X], lambda x: np.quantile(x, 0.3, axis=-1), lambda dy, x: _at(
    x, x.argsort(-1)[:, 1:3], dy[:, None] * np.array([0.8, 0.2])))
pair("sorted", [apart(3, 5)], lambda x: np.sort(x, -1), lambda dy, x: _at(x, x.argsort(-1), dy))
pair("sorted down a column", [apart(5, 3)], lambda x: -np.sort(-x, 0), lambda dy, x: _at(
    x.T, (-x).T.argsort(-1), dy.T).T)
pair("largest two", [apart(3, 5)], lambda x: np.sort(x, -1)[:, :-3:-1], lambda dy, x: _at(
    x, x.argsort(-1)[:, :-3:-1], dy))
pair("trimmed mean", [X], lambda x: np.sort(x, -1)[:, 1:-1].mean(-1), lambda dy, x: _at(
    x, x.argsort(-1)[:, 1:-1], dy[:, None] * np.ones(3) / 3))
pair("range", [X], lambda x: np.ptp(x, axis=-1), lambda dy, x: _at(x, x.argmax(-1)[:, None], dy[:, None]) - _at(
    x, x.argmin(-1)[:, None], dy[:, None]))
pair("trapezoids", [n(6), rising(6)], lambda y, t: ((y[1:] + y[:-1]) * np.diff(t)).sum() / 2, lambda d, y, t: (
    d * np.convolve(np.diff(t), [0.5, 0.5]), d * np.diff(-np.r_[0, y[1:] + y[:-1], 0]) / 2
))
pair("simpson", [n(7)], lambda y: y @ np.array([1, 4, 2, 4, 2, 4, 1]) / 3, lambda d, y: (
    d * np.array([1, 4, 2, 4, 2, 4, 1]) / 3
))
pair("weighted mean", [X, P], lambda x, w: (w * x).sum(-1) / w.sum(-1), lambda dy, x, w: (
    dy[:, None] * w / w.sum(-1, keepdims=True),
    dy[:, None] * (x - ((w * x).sum(-1) / w.sum(-1))[:, None]) / w.sum(-1, keepdims=True),
))
pair("coefficient of variation", [P], lambda x: x.std(-1) / x.mean(-1), lambda dy, x: dy[:, None] * (
    (x - x.mean(-1, keepdims=True)) / (5 * x.std(-1, keepdims=True) * x.mean(-1, keepdims=True))
    - x.std(-1, keepdims=True) / (5 * x.mean(-1, keepdims=True) ** 2)
))
pair("skewness", [X], lambda x: _moment(x, 3) / _moment(x, 2) ** 1.5, lambda dy, x: dy[:, None] * (
    _moment_slope(x, 3) / _moment(x, 2)[:, None] ** 1.5
    - 1.5 * (_moment(x, 3) / _moment(x, 2) ** 2.5)[:, None] * _moment_slope(x, 2)
))
pair("kurtosis", [X], lambda x: _moment(x, 4) / _moment(x, 2) ** 2, lambda dy, x: dy[:, None] * (
    _moment_slope(x, 4) / _moment(x, 2)[:, None] ** 2
    - 2 * (_moment(x, 4) / _moment(x, 2) ** 3)[:, None] * _moment_slope(x, 2)
))
pair("differences", [X], lambda x: np.diff(x, axis=-1), lambda dy, x: -np.diff(np.pad(dy, ((0, 0), (1, 1))), axis=-1))
pair("second differences", [n(6, 2)], lambda x: np.diff(x, 2, axis=0), lambda dy, x: np.diff(
    np.pad(dy, ((2, 2), (0, 0))), 2, axis=0))
pair("root mean square", [X], lambda x: np.sqrt((x * x).mean()), lambda dy, x: dy * x / (15 * np.sqrt((x * x).mean())))
pair("geometric mean of many", [P], lambda x: np.exp(np.log(x).mean(0)), lambda dy, x: (
    dy * np.exp(np.log(x).mean(0)) / (3 * x)
))
pair("expectation under softmax", [X], lambda x: _softmax(x) @ WEIGHTS, lambda dy, x: (
    dy[:, None] * _softmax(x) * (WEIGHTS - (_softmax(x) @ WEIGHTS)[:, None])
))
pair("total variation", [n(4, 5)], lambda x: np.abs(np.diff(x, axis=0)).sum() + np.abs(np.diff(x)).sum(),
     lambda dy, x: (
    -dy * np.diff(np.pad(np.sign(np.diff(x, axis=0)), ((1, 1), (0, 0))), axis=0)
    - dy * np.diff(np.pad(np.sign(np.diff(x)), ((0, 0), (1, 1))))
))
pair("greater of the halves", [apart(8)], lambda x: np.maximum(x[:4], x[4:]).sum(), lambda dy, x: (
    dy * np.r_[x[:4] > x[4:], x[:4] <= x[4:]]
))
pair("centred", [X], lambda x: x - x.mean(0), lambda dy, x: dy - dy.mean(0))
pair("means weighted by column", [n(4, 3)], lambda x: x.mean(0) * np.arange(3),
     lambda dy, x: np.arange(3) * dy / 4 + 0 * x)
# fmt: on


def _moment(x, power):
    return ((x - x.mean(-1, keepdims=True)) ** power).mean(-1)


def _moment_slope(x, power):
    """p (c^(p−1) − mean c^(p−1)) / n, since the mean moves too."""
    c = (x - x.mean(-1, keepdims=True)) ** (power - 1)
    return power * (c - c.mean(-1, keepdims=True)) / x.shape[-1]


@right(apart(3, 6))
def cumulative_maximum(x):
    """Each place's gradient goes to where its maximum was first reached."""
    y = np.maximum.accumulate(x, -1)
    owner = np.maximum.accumulate(np.where(x == y, np.arange(6), 0), -1)

    def backward(dy):
        dx = np.zeros_like(x)
        np.add.at(dx, (np.arange(3)[:, None], owner), dy)
        return dx

    return y, backward


@right(n(3, 5))
def log_cumulative_sum_exp(x):
    """dx_j = exp(x_j) Σ_{i ≥ j} dy_i exp(−y_i)"""
    y = np.log(np.cumsum(np.exp(x), -1))
    return y, lambda dy: np.exp(x) * np.cumsum((dy * np.exp(-y))[:, ::-1], -1)[:, ::-1]


@right(scaled(n(3, 5)))
def norm_at_any_scale(x):
    """m ‖x/m‖ with m the largest magnitude;    dx = dy x/‖x‖"""
    m = np.abs(x).max()
    y = m * np.sqrt(((x / m) ** 2).sum(-1))
    return y, lambda dy: dy[:, None] * (x / y[:, None])


@right(scaled(apart(3, 5)))
def ranks_weighted_at_any_scale(x):
    """Sorted, and weighted by rank."""
    index = x.argsort(-1)
    return np.sort(x, -1) @ WEIGHTS, lambda dy: _at(x, index, dy[:, None] * WEIGHTS)


@right(scaled(between(0.5, 2, 5), 140))
def logarithm_of_a_norm(x):
    """dx = dy x/‖x‖²"""
    m = x.max()
    return np.log(m) + np.log(((x / m) ** 2).sum()) / 2, lambda dy: dy * (x / m) / ((x / m) ** 2).sum() / m


@right(scaled(n(2, 5), 60))
def cosine_at_any_scale(x):
    """⟨u, v⟩/(‖u‖ ‖v‖) of the two rows;    du = dy (v̂ − y û)/‖u‖"""
    size = np.sqrt((x * x).sum(-1))
    unit = x / size[:, None]
    y = (unit[0] * unit[1]).sum()
    return y, lambda dy: dy * (unit[::-1] - y * unit) / size[:, None]
