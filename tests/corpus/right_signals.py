"""Fourier transforms, convolutions, interpolation, filters."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import between, fixed, n, pair, right, scaled

KERNEL = fixed(3)
_N, _K = np.arange(8), np.arange(8)
DCT = np.cos(np.pi * (_N + 0.5) * _K[:, None] / 8)
HARTLEY = np.cos(2 * np.pi * _N * _K[:, None] / 8) + np.sin(2 * np.pi * _N * _K[:, None] / 8)
WINDOW = np.hanning(10)[1:-1]


def _parts(z):
    return z.real, z.imag


def _real_fft(x):
    """The real and the imaginary part by their own sums, which complex steps may pass through."""
    angle = 2 * np.pi * np.arange(5)[:, None] * _N / 8
    return np.cos(angle) @ x, -np.sin(angle) @ x


# fmt: off
pair("fourier transform", [n(8)], lambda x: _parts(np.fft.fft(x)), lambda dr, di, x: (
    np.fft.fft(dr - 1j * di).real))
pair("half of a fourier transform", [n(8)], _real_fft, lambda dr, di, x: np.fft.fft(
    np.pad(dr + 1j * di, (0, 3)).conj()).real)
pair("power spectrum", [n(8)], lambda x: np.abs(np.fft.rfft(x)) ** 2, lambda dy, x: np.fft.fft(
    np.pad(2 * dy * np.fft.rfft(x).conj(), (0, 3))).real)
pair("amplitude spectrum", [n(7)], lambda x: np.abs(np.fft.fft(x)), lambda dy, x: np.fft.fft(
    dy * np.fft.fft(x).conj() / np.abs(np.fft.fft(x))).real)
pair("inverse real transform", [n(5), n(5)], lambda r, i: np.fft.irfft(r + 1j * i), lambda dy, r, i: (
    np.fft.rfft(dy).real * np.array([1, 2, 2, 2, 1]) / 8, np.fft.rfft(dy).imag * np.array([0, 2, 2, 2, 0]) / 8
))
pair("plane transform", [n(4, 4)], lambda x: _parts(np.fft.fft2(x)), lambda dr, di, x: (
    np.fft.fft2(dr).real + np.fft.fft2(di).imag))
pair("low pass", [n(8)], lambda x: np.fft.irfft(np.fft.rfft(x) * (np.arange(5) < 3)), lambda dy, x: (
    np.fft.irfft(np.fft.rfft(dy) * (np.arange(5) < 3))))
pair("circular convolution by transforms", [n(8), n(8)], lambda x, k: np.fft.ifft(np.fft.fft(x) * np.fft.fft(k)).real,
     lambda dy, x, k: (np.fft.ifft(np.fft.fft(dy) * np.fft.fft(k).conj()).real,
                       np.fft.ifft(np.fft.fft(dy) * np.fft.fft(x).conj()).real))
pair("spectral derivative", [n(9)], lambda x: np.fft.ifft(1j * np.fft.fftfreq(9) * np.fft.fft(x)).real, lambda dy, x: (
    np.fft.ifft(-1j * np.fft.fftfreq(9) * np.fft.fft(dy)).real))
pair("cosine transform", [n(8)], lambda x: DCT @ x, lambda dy, x: DCT.T @ dy)
pair("hartley transform", [n(3, 8)], lambda x: x @ HARTLEY, lambda dy, x: dy @ HARTLEY)
pair("hilbert envelope", [n(8)], lambda x: np.abs(np.fft.ifft(np.fft.fft(x) * np.array([1, 2, 2, 2, 1, 0, 0, 0]))),
     lambda dy, x: _envelope(dy, np.fft.ifft(np.fft.fft(x) * np.array([1, 2, 2, 2, 1, 0, 0, 0]))))
pair("convolution", [n(7), n(3)], np.convolve, lambda dy, x, k: (
    np.correlate(dy, k, "valid"), np.correlate(dy, x, "valid")))
pair("valid correlation", [n(8), n(3)], lambda x, k: np.correlate(x, k, "valid"), lambda dy, x, k: (
    np.convolve(dy, k), np.correlate(x, dy, "valid")))
pair("same convolution", [n(7)], lambda x: np.convolve(x, KERNEL, "same"), lambda dy, x: (
    np.convolve(dy, KERNEL[::-1], "same")))
pair("autocorrelation", [n(6)], lambda x: np.correlate(x, x, "full"), lambda dy, x: (
    (np.correlate(dy, x, "valid") + np.correlate(dy[::-1], x, "valid"))[::-1]))
pair("windowed", [n(2, 8)], lambda x: x * WINDOW, lambda dy, x: dy * WINDOW)
pair("haar step", [n(3, 8)], lambda x: np.concatenate([x[:, ::2] + x[:, 1::2], x[:, ::2] - x[:, 1::2]], 1) / 2**0.5,
     lambda dy, x: np.stack([dy[:, :4] + dy[:, 4:], dy[:, :4] - dy[:, 4:]], -1).reshape(3, 8) / 2**0.5)
pair("walsh-hadamard", [n(8)], lambda x: _walsh(x), lambda dy, x: _walsh(dy))
pair("upsampled", [n(3, 4)], lambda x: x.repeat(2, 1), lambda dy, x: dy.reshape(3, 4, 2).sum(-1))
pair("mean pooled", [n(2, 6)], lambda x: x.reshape(2, 3, 2).mean(-1), lambda dy, x: dy.repeat(2, 1) / 2)
pair("median filtered", [n(9)], lambda x: np.median(np.lib.stride_tricks.sliding_window_view(x, 3), -1), lambda dy, x: (
    np.bincount(np.arange(7) + np.lib.stride_tricks.sliding_window_view(x, 3).argsort(-1)[:, 1], dy, 9)))
pair("linearly interpolated", [between(0.1, 3.9, 5), n(5)], lambda t, y: np.interp(t, np.arange(5), y),
     lambda dy, t, y: (
    dy * np.diff(y)[t.astype(int)],
    np.bincount(t.astype(int), dy * (1 - t % 1), 5) + np.bincount(t.astype(int) + 1, dy * (t % 1), 5)))
pair("phase wrapped", [n(6)], lambda x: np.angle(np.exp(3j * x)), lambda dy, x: 3 * dy)
pair("transform at any scale", [scaled(n(8))], lambda x: np.fft.ifft(np.fft.fft(x) * np.exp(1j * _N)).real,
     lambda dy, x: (
    np.fft.ifft(np.fft.fft(dy) * np.exp(-1j * _N)).real))
pair("modulated", [n(8), n()], lambda x, f: x * np.cos(f * _N), lambda dy, x, f: (
    dy * np.cos(f * _N), np.asarray(-(dy * x * _N * np.sin(f * _N)).sum())))
pair("goertzel", [n(8), between(0.3, 2)], lambda x, w: np.hypot(x @ np.cos(w * _N), x @ np.sin(w * _N)),
     lambda dy, x, w: _goertzel(dy, x, w))
# fmt: on


def _envelope(dy, z):
    """dx = Re F*(m ∘ F(dy z/|z|)), the filter's adjoint of the phase."""
    mask = np.array([1, 2, 2, 2, 1, 0, 0, 0])
    return np.fft.ifft(np.fft.fft(dy * z / np.abs(z)) * mask).real


def _walsh(x):
    for h in (1, 2, 4):
        x = x.reshape(-1, 2, h)
        x = np.stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]], 1)
    return x.reshape(8)


def _goertzel(dy, x, w):
    c, s = x @ np.cos(w * _N), x @ np.sin(w * _N)
    r = np.hypot(c, s)
    dx = dy * (c * np.cos(w * _N) + s * np.sin(w * _N)) / r
    dw = dy * (-c * (x @ (_N * np.sin(w * _N))) + s * (x @ (_N * np.cos(w * _N)))) / r
    return dx, np.asarray(dw)


@right(n(2, 3, 5, 5), n(4, 3, 2, 2))
def plane_convolution(x, k):
    """Windows of x by kernels;    dk sums over places, dx scatters each window back."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), (2, 3))

    def backward(dy):
        dx = np.zeros_like(x)
        for i in range(2):
            for j in range(2):
                dx[:, :, i : i + 4, j : j + 4] += np.einsum("bopq,oc->bcpq", dy, k[:, :, i, j])
        return dx, np.einsum("bopq,bcpqij->ocij", dy, windows)

    return np.einsum("bcpqij,ocij->bopq", windows, k), backward


@right(n(3, 7), n(3, 3))
def depthwise_dilated(x, k):
    """y[c,t] = Σ_j k[c,j] x[c,t + 2j]"""
    y = sum(k[:, j, None] * x[:, 2 * j : 2 * j + 3] for j in range(3))

    def backward(dy):
        dx, dk = np.zeros_like(x), np.zeros_like(k)
        for j in range(3):
            dx[:, 2 * j : 2 * j + 3] += k[:, j, None] * dy
            dk[:, j] = (dy * x[:, 2 * j : 2 * j + 3]).sum(1)
        return dx, dk

    return y, backward


@right(n(2, 3), n(2, 4, 3))
def transposed_convolution(x, k):
    """y[o, 2t + j] += x[i,t] k[i,o,j]"""
    y = np.zeros((4, 7), x.dtype)
    for j in range(3):
        y[:, j : j + 5 : 2] += k[:, :, j].T @ x

    def backward(dy):
        dx = sum(k[:, :, j] @ dy[:, j : j + 5 : 2] for j in range(3))
        return dx, np.stack([x @ dy[:, j : j + 5 : 2].T for j in range(3)], -1)

    return y, backward


@right(n(4, 4))
def max_pooled_plane(x):
    """Each 2 by 2 block's gradient goes to its largest element."""
    blocks = x.reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(4, 4)
    winner = blocks.argmax(-1)

    def backward(dy):
        d = np.zeros_like(blocks)
        d[np.arange(4), winner] = dy.ravel()
        return d.reshape(2, 2, 2, 2).swapaxes(1, 2).reshape(4, 4)

    return blocks.max(-1).reshape(2, 2), backward


@right(n(4, 5), between(0.2, 2.8, 6), between(0.2, 3.8, 6))
def bilinear_sample(image, u, v):
    """The four neighbours, weighted by nearness;    du, dv by the weights' slopes."""
    i, j = u.astype(int), v.astype(int)
    a, b = u - i, v - j
    corners = image[i, j], image[i, j + 1], image[i + 1, j], image[i + 1, j + 1]
    p, q, r, s = corners

    def backward(dy):
        di = np.zeros_like(image)
        for places, weight in (
            ((i, j), (1 - a) * (1 - b)),
            ((i, j + 1), (1 - a) * b),
            ((i + 1, j), a * (1 - b)),
            ((i + 1, j + 1), a * b),
        ):
            np.add.at(di, places, dy * weight)
        return di, dy * ((1 - b) * (r - p) + b * (s - q)), dy * ((1 - a) * (q - p) + a * (s - r))

    return (1 - a) * ((1 - b) * p + b * q) + a * ((1 - b) * r + b * s), backward


@right(n(8), n(), n())
def biquad(x, a, b):
    """y_t = x_t + b x_{t−1} − a y_{t−1}, with a squashed below 1;    the adjoint runs backwards in time."""
    s = 0.9 * np.tanh(a)
    y = []
    for t in range(8):
        y.append(x[t] + (b * x[t - 1] - s * y[t - 1] if t else 0))

    def backward(dy):
        dx, ds, db, carried = np.zeros_like(x), 0.0, 0.0, 0.0
        for t in range(7, -1, -1):
            d = dy[t] + carried
            dx[t] += d
            if t:
                dx[t - 1] += b * d
                db += d * x[t - 1]
                ds -= d * y[t - 1]
            carried = -s * d
        return dx, np.asarray(ds * 0.9 * (1 - np.tanh(a) ** 2)), np.asarray(db)

    return np.array(y), backward
