"""Gathers, scatters, segments, masks, pads, rolls: where elements go."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import apart, between, coin, n, order, pair, right, scaled, whole

X = n(4, 5)


def _added(shape, index, values):
    out = np.zeros(shape, values.dtype)
    np.add.at(out, index, values)
    return out


# fmt: off
pair("gathered rows", [X, whole(4, 7)], lambda x, i: x[i], lambda dy, x, i: (_added(x.shape, i, dy), None))
pair("embedding of a batch", [scaled(n(6, 3)), whole(6, 2, 4)], lambda x, i: x[i], lambda dy, x, i: (
    _added(x.shape, i, dy), None))
pair("gathered pairs", [X, whole(4, 6), whole(5, 6)], lambda x, i, j: x[i, j], lambda dy, x, i, j: (
    _added(x.shape, (i, j), dy), None, None))
pair("taken along an axis", [X, whole(5, 4, 2)], lambda x, i: np.take_along_axis(x, i, 1), lambda dy, x, i: (
    _added(x.shape, (np.arange(4)[:, None], i), dy), None))
pair("segment sums", [n(7, 2), whole(3, 7)], lambda x, s: _added((3, 2), s, x), lambda dy, x, s: (dy[s], None))
pair("segment means", [n(7), whole(3, 7)], lambda x, s: _added(3, s, x) / np.maximum(np.bincount(s, None, 3), 1),
     lambda dy, x, s: ((dy / np.maximum(np.bincount(s, None, 3), 1))[s], None))
pair("segments by reduceat", [n(8)], lambda x: np.add.reduceat(x, [0, 3, 4]), lambda dy, x: dy.repeat([3, 1, 4]))
pair("weighted counts", [n(7), whole(4, 7)], lambda x, i: np.bincount(i, x, 4), lambda dy, x, i: (dy[i], None))
pair("permuted", [X, order(4)], lambda x, p: x[p], lambda dy, x, p: (dy[np.argsort(p)], None))
pair("permuted columns twice", [X, order(5)], lambda x, p: x[:, p][:, p], lambda dy, x, p: (
    dy[:, np.argsort(p)][:, np.argsort(p)], None))
pair("masked out", [X, coin(4, 5)], lambda x, m: x * m, lambda dy, x, m: (dy * m, None))
pair("selected by a mask", [X, coin(4, 5)], lambda x, m: x[m],
     lambda dy, x, m: (_added(x.shape, np.nonzero(m), dy), None))
pair("masked mean", [X, coin(4, 5)], lambda x, m: x.sum(where=m) / m.sum(), lambda dy, x, m: (dy * m / m.sum(), None))
pair("zero padded", [X], lambda x: np.pad(x, ((1, 0), (2, 1))), lambda dy, x: dy[1:, 2:-1])
pair("padded by its edge", [n(5)], lambda x: np.pad(x, 2, "edge"), lambda dy, x: np.r_[
    dy[:3].sum(), dy[3:6], dy[6:].sum()])
pair("padded by reflection", [n(5)], lambda x: np.pad(x, (2, 1), "reflect"), lambda dy, x: (
    dy[2:7] + np.r_[0, dy[1], dy[0], 0, 0] + np.r_[0, 0, 0, dy[7], 0]))
pair("wrapped", [n(5)], lambda x: np.pad(x, 2, "wrap"), lambda dy, x: dy[2:7] + np.r_[dy[7:], 0, 0, 0][:5] + np.r_[
    0, 0, 0, dy[:2]])
pair("rolled", [X], lambda x: np.roll(x, (1, -2), (0, 1)), lambda dy, x: np.roll(dy, (-1, 2), (0, 1)))
pair("flipped", [X], lambda x: x[::-1, ::2], lambda dy, x: _added(x.shape, np.ix_([3, 2, 1, 0], [0, 2, 4]), dy))
pair("transposed", [n(2, 3, 4)], lambda x: x.transpose(2, 0, 1), lambda dy, x: dy.transpose(1, 2, 0))
pair("reshaped by columns", [n(3, 4)], lambda x: x.reshape((2, 6), order="F"), lambda dy, x: (
    dy.reshape((3, 4), order="F")))
pair("concatenated", [n(2, 3), n(4, 3)], lambda x, z: np.concatenate([x, z, x]), lambda dy, x, z: (
    dy[:2] + dy[6:], dy[2:6]))
pair("split in three", [n(3, 6)], lambda x: tuple(np.split(x, [1, 3], 1)), lambda a, b, c, x: np.hstack([a, b, c]))
pair("stacked", [n(4), n(4)], lambda x, z: np.stack([x, z, x * z], 1), lambda dy, x, z: (
    dy[:, 0] + z * dy[:, 2], dy[:, 1] + x * dy[:, 2]))
pair("tiled", [n(2, 3)], lambda x: np.tile(x, (2, 2)), lambda dy, x: dy.reshape(2, 2, 2, 3).sum((0, 2)))
pair("unfolded windows", [n(7)], lambda x: np.lib.stride_tricks.sliding_window_view(x, 3)[::2], lambda dy, x: (
    _added(7, np.arange(0, 5, 2)[:, None] + np.arange(3), dy)))
pair("overlap added", [n(3, 4)], lambda x: _added(8, np.arange(0, 5, 2)[:, None] + np.arange(4), x), lambda dy, x: (
    dy[np.arange(0, 5, 2)[:, None] + np.arange(4)]))
pair("anti-diagonal sums", [n(3, 4)], lambda x: _added(6, np.add.outer(np.arange(3), np.arange(4)), x), lambda dy, x: (
    dy[np.add.outer(np.arange(3), np.arange(4))]))
pair("lower triangle packed", [n(4, 4)], lambda x: x[np.tril_indices(4)], lambda dy, x: (
    _added((4, 4), np.tril_indices(4), dy)))
pair("symmetric from packed", [n(6)], lambda x: _symmetric(x), lambda dy, x: (
    (dy + dy.T)[np.tril_indices(3)] / np.array([2, 1, 2, 1, 1, 2])))
pair("largest by segment", [apart(8), whole(3, 8)], lambda x, s: _segment_max(x, s)[0], lambda dy, x, s: (
    _added(8, _segment_max(x, s)[1], dy), None))
pair("straight bins", [between(0.3, 3.7, 6), n(4)], lambda x, y: y[x.astype(int)] * x, lambda dy, x, y: (
    dy * y[x.astype(int)], _added(4, x.astype(int), dy * x)))
pair("edges of a graph", [n(4, 3), whole(4, 6), whole(4, 6)], lambda x, i, j: ((x[i] - x[j]) ** 2).sum(1),
     lambda dy, x, i, j: (_added(x.shape, i, 2 * dy[:, None] * (x[i] - x[j]))
                          - _added(x.shape, j, 2 * dy[:, None] * (x[i] - x[j])), None, None))
pair("messages on a graph", [n(4, 3), n(6), whole(4, 6), whole(4, 6)],
     lambda x, w, i, j: _added((4, 3), j, w[:, None] * np.tanh(x[i])), lambda dy, x, w, i, j: (
         _added(x.shape, i, dy[j] * w[:, None] * (1 - np.tanh(x[i]) ** 2)), (dy[j] * np.tanh(x[i])).sum(1),
         None, None))
pair("pixels shuffled", [n(4, 2, 3)], lambda x: x.reshape(2, 2, 2, 3).transpose(2, 0, 3, 1).reshape(4, 6),
     lambda dy, x: (
    dy.reshape(2, 2, 3, 2).transpose(1, 3, 0, 2).reshape(4, 2, 3)))
pair("skewed relative positions", [n(3, 5)], lambda x: np.stack([x[i, 2 - i : 5 - i] for i in range(3)]),
     lambda dy, x: (
    _added((3, 5), (np.arange(3)[:, None], 2 - np.arange(3)[:, None] + np.arange(3)), dy)))
pair("inserted row", [n(3, 4), n(4)], lambda x, r: np.insert(x, 1, r, 0), lambda dy, x, r: (dy[[0, 2, 3]], dy[1]))
pair("ranked gather", [apart(6), n(6)], lambda k, v: v[k.argsort()] * np.arange(6) + k, lambda dy, k, v: (
    dy, _added(6, k.argsort(), dy * np.arange(6))))
# fmt: on


def _symmetric(x):
    y = np.zeros((3, 3), x.dtype)
    y[np.tril_indices(3)] = x
    return y + np.tril(y, -1).T


def _segment_max(x, s):
    """The largest of each segment that has any, and where it stands."""
    where = np.array([np.flatnonzero(s == k)[x[s == k].argmax()] for k in np.unique(s)])
    return x[where], where


@right(n(4, 3), n(6, 3), whole(3, 6))
def scattered_over(x, values, i):
    """x[i] = values, the last writer wins: only it and the rows left alone have gradients."""
    y = x.copy()
    y[i] = values
    last = np.array([k == np.flatnonzero(i == row)[-1] for k, row in enumerate(i)])
    return y, lambda dy: (dy * ~np.isin(np.arange(4), i)[:, None], dy[i] * last[:, None], None)


@right(n(4, 3), coin(4))
def packed_and_padded(x, keep):
    """The kept rows first, zeros after."""
    place = np.flatnonzero(keep)
    y = np.zeros_like(x)
    y[: len(place)] = x[place]
    return y, lambda dy: (_added(x.shape, place, dy[: len(place)]), None)
