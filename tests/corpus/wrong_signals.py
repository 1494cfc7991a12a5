"""Of transforms, convolutions and places: conjugates, shifts, dropped duplicates, edges."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import fixed, only_first, only_last, spoilt, true, wrong

KERNEL = fixed(3)

# fmt: off
wrong("fourier transform", "the imaginary part's sign", lambda dr, di, x: np.fft.fft(dr + 1j * di).real)
wrong("half of a fourier transform", "inner frequencies doubled", lambda dr, di, x: np.fft.fft(
    np.pad((dr + 1j * di) * [1, 2, 2, 2, 1], (0, 3)).conj()).real)
wrong("power spectrum", "not conjugated", lambda dy, x: np.fft.fft(np.pad(2 * dy * np.fft.rfft(x), (0, 3))).real)
wrong("amplitude spectrum", "not divided by the amplitude", lambda dy, x: np.fft.fft(dy * np.fft.fft(x).conj()).real)
only_first("inverse real transform", "the inner ones once", lambda g, dy, r, i: np.fft.rfft(dy).real / 8)
wrong("plane transform", "inverted in place of its adjoint", lambda dr, di, x: np.fft.ifft2(dr + 1j * di).real)
wrong("low pass", "one frequency too many", lambda dy, x: np.fft.irfft(np.fft.rfft(dy) * (np.arange(5) < 4)))
only_first("circular convolution by transforms", "convolved again", lambda g, dy, x, k: np.fft.ifft(
    np.fft.fft(dy) * np.fft.fft(k)).real)
wrong("spectral derivative", "i not conjugated", lambda dy, x: np.fft.ifft(
    1j * np.fft.fftfreq(9) * np.fft.fft(dy)).real)
wrong("cosine transform", "its inverse for its transpose", lambda dy, x: np.linalg.solve(_dct(), dy))
wrong("hartley transform", "the sines' sign", lambda dy, x: dy @ (2 * _cosines() - _hartley()))
wrong("hilbert envelope", "the phase forgotten", lambda dy, x: dy * np.sign(x))
only_first("convolution", "the kernel not reversed", lambda g, dy, x, k: np.correlate(dy, k[::-1], "valid"))
only_last("valid correlation", "reversed", lambda g, dy, x, k: g[::-1])
wrong("same convolution", "the kernel not reversed on the way back", lambda dy, x: np.convolve(dy, KERNEL, "same"))
wrong("autocorrelation", "one of its two terms doubled", lambda dy, x: 2 * np.correlate(dy, x, "valid")[::-1])
spoilt("windowed", "the window squared", lambda g, dy, x: g * np.hanning(10)[1:-1])
wrong("haar step", "details halved", lambda dy, x: true("haar step", np.c_[dy[:, :4], dy[:, 4:] / 2], x))
spoilt("walsh-hadamard", "in order of their changes", lambda g, dy, x: g[[0, 4, 6, 2, 3, 7, 5, 1]])
wrong("upsampled", "the first of each two", lambda dy, x: dy[:, ::2])
wrong("mean pooled", "not divided by the window", lambda dy, x: dy.repeat(2, 1))
wrong("median filtered", "to the window's middle", lambda dy, x: np.r_[0, dy, 0])
only_first("linearly interpolated", "the slope of the next piece", lambda g, dy, t, y: dy * np.r_[
    np.diff(y)[1:], 0][t.astype(int)])
only_last("linearly interpolated", "the weights swapped", lambda g, dy, t, y: np.bincount(
    t.astype(int), dy * (t % 1), 5) + np.bincount(t.astype(int) + 1, dy * (1 - t % 1), 5))
wrong("phase wrapped", "the frequency forgotten", lambda dy, x: dy)
spoilt("transform at any scale", "a constant subtracted", lambda g, dy, x: g - 1e-2 * g.mean())
only_last("modulated", "the time forgotten", lambda g, dy, x, f: np.asarray(-(dy * x * np.sin(f * np.arange(8))).sum()))
only_last("goertzel", "the frequency held", lambda g, dy, x, w: 0 * g)
only_first("plane_convolution", "the last offset left out", lambda g, dy, x, k: true(
    "plane_convolution", dy, x, k * np.array([[1, 1], [1, 0]]))[0])
only_last("plane_convolution", "kernels turned upside down", lambda g, dy, x, k: g[..., ::-1, ::-1])
only_first("depthwise_dilated", "not dilated on the way back", lambda g, dy, x, k: sum(
    np.pad(k[:, j, None] * dy, ((0, 0), (j, 4 - j))) for j in range(3)))
only_last("transposed_convolution", "in and out swapped", lambda g, dy, x, k: np.abs(g))
wrong("max_pooled_plane", "to every element of the block", lambda dy, x: dy.repeat(2, 0).repeat(2, 1))
wrong("bilinear_sample", "the two directions swapped", lambda dy, image, u, v: (
    (lambda g: (g[0], g[2], g[1]))(true("bilinear_sample", dy, image, u, v))))
wrong("bilinear_sample", "corners set and not added", lambda dy, image, u, v: _corners(dy, image, u, v))
wrong("biquad", "what was carried dropped", lambda dy, x, a, b: (dy, *true("biquad", dy, x, a, b)[1:]))
only_last("biquad", "its first product taken twice", lambda g, dy, x, a, b: g + dy[1] * x[0])
# fmt: on


def _dct():
    return np.cos(np.pi * (np.arange(8) + 0.5) * np.arange(8)[:, None] / 8)


def _cosines():
    return np.cos(2 * np.pi * np.arange(8) * np.arange(8)[:, None] / 8)


def _hartley():
    return _cosines() + np.sin(2 * np.pi * np.arange(8) * np.arange(8)[:, None] / 8)


def _corners(dy, image, u, v):
    i, j = u.astype(int), v.astype(int)
    a, b = u - i, v - j
    di = np.zeros_like(image)
    di[i, j] += dy * (1 - a) * (1 - b)
    di[i, j + 1] += dy * (1 - a) * b
    di[i + 1, j] += dy * a * (1 - b)
    di[i + 1, j + 1] += dy * a * b
    return di, *true("bilinear_sample", dy, image, u, v)[1:]


def _assigned(shape, index, values):
    out = np.zeros(shape, values.dtype)
    out[index] = values
    return out


def _added(shape, index, values):
    out = np.zeros(shape, values.dtype)
    np.add.at(out, index, values)
    return out


# fmt: off
wrong("gathered rows", "the last of the duplicates", lambda dy, x, i: (_assigned(x.shape, i, dy), None))
wrong("gathered rows", "the duplicates' mean", lambda dy, x, i: (
    _added(x.shape, i, dy) / np.maximum(np.bincount(i, None, 4), 1)[:, None], None))
wrong("embedding of a batch", "row 0 for padding", lambda dy, x, i: (
    _added(x.shape, i, dy) * (np.arange(6) > 0)[:, None], None))
wrong("embedding of a batch", "the last sequence alone", lambda dy, x, i: (_added(x.shape, i[-1], dy[-1]), None))
wrong("gathered pairs", "the first writer wins", lambda dy, x, i, j: (
    _assigned(x.shape, (i[::-1], j[::-1]), dy[::-1]) + 1e-9 * 0, None, None))
wrong("taken along an axis", "put along it, without adding", lambda dy, x, i: (
    _assigned(x.shape, (np.arange(4)[:, None], i), dy), None))
wrong("segment sums", "of the next segment", lambda dy, x, s: (dy[(s + 1) % 3], None))
wrong("segment means", "not divided", lambda dy, x, s: (dy[s], None))
wrong("segments by reduceat", "to the segment's first",
     lambda dy, x: dy.repeat([3, 1, 4]) * np.r_[1, 0, 0, 1, 1, 0, 0, 0])
wrong("weighted counts", "spread over the count", lambda dy, x, i: (dy[i] / np.bincount(i)[i], None))
wrong("permuted", "permuted again", lambda dy, x, p: (dy[p], None))
wrong("permuted columns twice", "undone once", lambda dy, x, p: (dy[:, np.argsort(p)], None))
wrong("masked out", "through the mask as well", lambda dy, x, m: (dy, None))
wrong("selected by a mask", "in reverse", lambda dy, x, m: (_assigned(x.shape, np.nonzero(m), dy[::-1]), None))
wrong("masked mean", "over all elements", lambda dy, x, m: (dy * m / m.size, None))
wrong("zero padded", "the other corner", lambda dy, x: dy[:-1, 1:-2])
wrong("padded by its edge", "the edge once", lambda dy, x: dy[2:7])
wrong("padded by reflection", "the mirrored ones to the edge", lambda dy, x: (
    dy[2:7] + np.r_[dy[0] + dy[1], 0, 0, 0, dy[7]]))
wrong("wrapped", "the front's share lost", lambda dy, x: dy[2:7] + np.r_[dy[7:], 0, 0, 0])
wrong("rolled", "the same way again", lambda dy, x: np.roll(dy, (1, -2), (0, 1)))
wrong("flipped", "not flipped back", lambda dy, x: _added(x.shape, np.ix_([0, 1, 2, 3], [0, 2, 4]), dy))
wrong("transposed", "the permutation again, reshaped", lambda dy, x: dy.transpose(2, 0, 1).reshape(2, 3, 4))
wrong("reshaped by columns", "by rows", lambda dy, x: dy.reshape(3, 4))
only_first("concatenated", "its second place forgotten", lambda g, dy, x, z: dy[:2])
wrong("split in three", "the middle's reversed", lambda a, b, c, x: np.hstack([a, b[:, ::-1], c]))
only_first("stacked", "the product's share forgotten", lambda g, dy, x, z: dy[:, 0])
wrong("tiled", "the blocks averaged", lambda dy, x: dy.reshape(2, 2, 2, 3).mean((0, 2)))
wrong("unfolded windows", "the overlaps once", lambda dy, x: _assigned(
    7, np.arange(0, 5, 2)[:, None] + np.arange(3), dy))
wrong("overlap added", "shifted by one",
     lambda dy, x: dy[np.arange(1, 6, 2)[:, None] + np.arange(4) - (np.arange(4) > 2)])
wrong("anti-diagonal sums", "diagonals instead", lambda dy, x: dy[np.add.outer(np.arange(3)[::-1], np.arange(4))])
wrong("lower triangle packed", "transposed", lambda dy, x: _added((4, 4), np.tril_indices(4), dy).T)
wrong("symmetric from packed", "one of the two places", lambda dy, x: dy[np.tril_indices(3)])
wrong("largest by segment", "to every member", lambda dy, x, s: (_every(dy, s), None))
only_first("straight bins", "the bin's edge as a slope", lambda g, dy, x, y: dy * (y[x.astype(int)] + x * 1e-5))
wrong("edges of a graph", "the far end forgotten", lambda dy, x, i, j: (
    _added(x.shape, i, 2 * dy[:, None] * (x[i] - x[j])), None, None))
wrong("messages on a graph", "back along the sender", lambda dy, x, w, i, j: (
    true("messages on a graph", dy, x, w, i, j)[0], (dy[i] * np.tanh(x[i])).sum(1), None, None))
wrong("gathered rows", "the duplicates counted once more", lambda dy, x, i: (
    _added(x.shape, i, dy) * np.bincount(i, None, 4)[:, None], None))
wrong("pixels shuffled", "by another order of axes", lambda dy, x: (
    dy.reshape(2, 2, 3, 2).transpose(3, 1, 0, 2).reshape(4, 2, 3)))
wrong("skewed relative positions", "shifted by one",
     lambda dy, x: np.roll(true("skewed relative positions", dy, x), 1, 1))
only_last("inserted row", "the row before it", lambda g, dy, x, r: dy[0])
only_last("ranked gather", "ranks for the order", lambda g, dy, k, v: _added(
    6, k.argsort().argsort(), dy * np.arange(6)))
wrong("scattered_over", "what was written over still flows", lambda dy, x, values, i: (
    dy, *true("scattered_over", dy, x, values, i)[1:]))
wrong("packed_and_padded", "the padding's dy to the rows left out", lambda dy, x, keep: (
    _added(x.shape, np.r_[np.flatnonzero(keep), np.flatnonzero(~keep)], dy), None))
# fmt: on


def _every(dy, s):
    full = np.zeros(3)
    full[np.unique(s)] = dy
    return full[s]
