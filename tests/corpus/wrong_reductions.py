"""Of reductions: axes, counts, orders, and what moves with the mean."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import fixed, spoilt, true, wrong

WEIGHTS = fixed(5)


def _softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _put(x, index, dy):
    dx = np.zeros_like(x)
    np.put_along_axis(dx, index, dy, -1)
    return dx


# fmt: off
wrong("sum of all", "a mean's gradient", lambda dy, x: dy * np.ones_like(x) / x.size)
wrong("sum of all", "the first row forgotten", lambda dy, x: dy * np.ones_like(x) * (np.arange(3) > 0)[:, None])
wrong("mean along rows", "divided by the rows' number", lambda dy, x: dy[:, None] / 3 + 0 * x)
wrong("product of all", "not divided by x", lambda dy, x: dy[:, None] * x.prod(-1, keepdims=True) + 0 * x)
wrong("euclidean norm", "the norm over the other axis", lambda dy, x: dy[:, None] * x / np.linalg.norm(x, axis=0))
wrong("norm of power 3", "the sign lost", lambda dy, x: (
    dy[:, None] * x * x / (np.abs(x) ** 3).sum(-1, keepdims=True) ** (2 / 3)))
wrong("taxicab norm", "x for its sign", lambda dy, x: dy * x)
wrong("largest magnitude", "the sign of the largest forgotten",
     lambda dy, x: _put(x, np.abs(x).argmax(-1)[:, None], dy[:, None]))
wrong("smallest", "to the largest", lambda dy, x: _put(x, x.argmax(-1)[:, None], dy[:, None]))
wrong("log sum exp", "not normalised", lambda dy, x: dy[:, None] * np.exp(x))
wrong("variance", "one degree of freedom less", lambda dy, x: dy[:, None] * 2 * (x - x.mean(-1, keepdims=True)) / 4)
wrong("variance", "not centred", lambda dy, x: dy[:, None] * 2 * x / 5)
wrong("standard deviation", "the variance in the place of its root", lambda dy, x: (
    dy[:, None] * (x - x.mean(-1, keepdims=True)) / (4 * x.var(-1, ddof=1, keepdims=True))))
wrong("standard deviation", "the other count inside", lambda dy, x: (
    dy[:, None] * (x - x.mean(-1, keepdims=True)) / (4 * x.std(-1, keepdims=True))))
wrong("cumulative sum", "summed forwards again", lambda dy, x: np.cumsum(dy, -1))
wrong("cumulative sum", "its own element left out", lambda dy, x: np.cumsum(dy[:, ::-1], -1)[:, ::-1] - dy)
wrong("cumulative product", "not divided by its factor", lambda dy, x: (
    np.cumsum((dy * np.cumprod(x, -1))[:, ::-1], -1)[:, ::-1]))
wrong("median", "to the mean's share", lambda dy, x: dy[:, None] / 5 + 0 * x)
wrong("even median", "to the lower of the two alone", lambda dy, x: _put(x, x.argsort(-1)[:, 2:3], dy[:, None]))
wrong("quantile", "the weights swapped", lambda dy, x: _put(
    x, x.argsort(-1)[:, 1:3], dy[:, None] * np.array([0.2, 0.8])))
wrong("sorted", "the permutation instead of its inverse", lambda dy, x: np.take_along_axis(dy, x.argsort(-1), -1))
wrong("sorted", "not permuted", lambda dy, x: dy)
wrong("sorted down a column", "rising where it falls", lambda dy, x: _put(x.T, x.T.argsort(-1), dy.T).T)
wrong("largest two", "the two swapped", lambda dy, x: _put(x, x.argsort(-1)[:, :-3:-1], dy[:, ::-1]))
wrong("trimmed mean", "nothing trimmed", lambda dy, x: dy[:, None] / 3 + 0 * x)
wrong("range", "the smallest added", lambda dy, x: _put(x, x.argmax(-1)[:, None], dy[:, None]) + _put(
    x, x.argmin(-1)[:, None], dy[:, None]))
wrong("trapezoids", "the ends whole", lambda d, y, t: (
    d * np.r_[np.diff(t)[:1], np.diff(t)] * 1.0, true("trapezoids", d, y, t)[1]))
wrong("trapezoids", "the last knot held", lambda d, y, t: (
    true("trapezoids", d, y, t)[0], true("trapezoids", d, y, t)[1] * (np.arange(6) < 5)))
wrong("simpson", "fours and twos swapped", lambda d, y: d * np.array([1, 2, 4, 2, 4, 2, 1]) / 3)
wrong("weighted mean", "the weights' sum held", lambda dy, x, w: (
    dy[:, None] * w / w.sum(-1, keepdims=True), dy[:, None] * x / w.sum(-1, keepdims=True)))
wrong("coefficient of variation", "the mean held", lambda dy, x: dy[:, None] * (
    x - x.mean(-1, keepdims=True)) / (5 * x.std(-1, keepdims=True) * x.mean(-1, keepdims=True)))
wrong("skewness", "the spread held", lambda dy, x: _moment_only(dy, x, 3))
wrong("kurtosis", "the mean held in the fourth power", lambda dy, x: _kurtosis(dy, x))
wrong("differences", "a sign", lambda dy, x: np.diff(np.pad(dy, ((0, 0), (1, 1))), axis=-1))
wrong("second differences", "the ends as the first's", lambda dy, x: np.diff(
    np.pad(dy, ((2, 2), (0, 0)), mode="edge"), 2, axis=0))
wrong("root mean square", "not averaged", lambda dy, x: dy * x / np.sqrt((x * x).mean()))
wrong("geometric mean of many", "the count forgotten", lambda dy, x: dy * np.exp(np.log(x).mean(0)) / x)
wrong("expectation under softmax", "not centred", lambda dy, x: dy[:, None] * _softmax(x) * WEIGHTS)
spoilt("total variation", "the corner twice", lambda g, dy, x: g + g * ((np.arange(20) == 0).reshape(4, 5)))
wrong("greater of the halves", "to the lesser", lambda dy, x: dy * np.r_[x[:4] <= x[4:], x[:4] > x[4:]])
wrong("centred", "not centred back", lambda dy, x: dy)
wrong("centred", "centred over the other axis", lambda dy, x: dy - dy.mean(1, keepdims=True))
wrong("means weighted by column", "the weights reversed", lambda dy, x: np.arange(3)[::-1] * dy / 4 + 0 * x)
wrong("cumulative_maximum", "each place to itself", lambda dy, x: dy * (x == np.maximum.accumulate(x, -1)))
wrong("log_cumulative_sum_exp", "each place's own share alone", lambda dy, x: (
    dy * np.exp(x) / np.cumsum(np.exp(x), -1)))
wrong("norm_at_any_scale", "the scale differentiated for nothing", lambda dy, x: (
    true("norm_at_any_scale", dy, x) + (np.abs(x) == np.abs(x).max()) * 1e-3 * dy.sum()))
wrong("mean along rows", "an eps beside the count", lambda dy, x: dy[:, None] / (5 + 1e-4) + 0 * x)
wrong("ranks_weighted_at_any_scale", "ranks for the order", lambda dy, x: dy[:, None] * WEIGHTS[x.argsort(-1)])
spoilt("logarithm_of_a_norm", "the largest held apart", lambda g, dy, x: g * (x < x.max()))
wrong("cosine_at_any_scale", "not made tangent", lambda dy, x: dy * x[::-1] / np.sqrt((x * x).sum(-1)).prod())
# fmt: on


def _moment(x, power):
    return ((x - x.mean(-1, keepdims=True)) ** power).mean(-1)


def _moment_only(dy, x, power):
    c = (x - x.mean(-1, keepdims=True)) ** (power - 1)
    return dy[:, None] * power * (c - c.mean(-1, keepdims=True)) / 5 / _moment(x, 2)[:, None] ** (power / 2)


def _kurtosis(dy, x):
    """The term that the moving mean brings, −4 m₃/5, left out."""
    left = 4 * _moment(x, 3) / 5 / _moment(x, 2) ** 2
    return true("kurtosis", dy, x) + (dy * left)[:, None]
