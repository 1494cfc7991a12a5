"""Polynomials, splines and physics."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import apart, between, n, pair, rising, scaled, whole


def _chebyshev(c, x):
    return np.cos(np.arange(len(c)) * np.arccos(x)[:, None]) @ c


def _legendre(x, size):
    P = [np.ones_like(x), x]
    for k in range(2, size):
        P.append(((2 * k - 1) * x * P[-1] - (k - 1) * P[-2]) / k)
    return np.stack(P, -1)


def _hermite(x, size):
    H = [np.ones_like(x), 2 * x]
    for k in range(1, size - 1):
        H.append(2 * x * H[-1] - 2 * k * H[-2])
    return np.stack(H, -1)


def _bernstein(t, degree):
    choose = np.array([1, 3, 3, 1] if degree == 3 else [1, 2, 1])
    k = np.arange(degree + 1)
    return choose * t[:, None] ** k * (1 - t[:, None]) ** (degree - k)


pair(
    "chebyshev series",
    [n(5), between(-0.9, 0.9, 4)],
    _chebyshev,
    lambda dy, c, x: (
        np.cos(np.arange(5) * np.arccos(x)[:, None]).T @ dy,
        dy * ((np.arange(5) * np.sin(np.arange(5) * np.arccos(x)[:, None])) @ c) / np.sqrt(1 - x * x),
    ),
)


pair(
    "legendre series",
    [n(5), between(-0.9, 0.9, 4)],
    lambda c, x: _legendre(x, 5) @ c,
    lambda dy, c, x: (_legendre(x, 5).T @ dy, dy * _legendre_slope(c, x)),
)


pair(
    "hermite series",
    [n(5), n(3)],
    lambda c, x: _hermite(x, 5) @ c,
    lambda dy, c, x: (_hermite(x, 5).T @ dy, dy * (_hermite(x, 4) @ (2 * np.arange(1, 5) * c[1:]))),
)


pair(
    "bezier curve",
    [n(4, 2), between(0.05, 0.95, 5)],
    lambda p, t: _bernstein(t, 3) @ p,
    lambda dy, p, t: (_bernstein(t, 3).T @ dy, (dy * (3 * _bernstein(t, 2) @ np.diff(p, axis=0))).sum(1)),
)


pair(
    "lagrange interpolation",
    [apart(4), n(4)],
    lambda t, y: _lagrange(t, 2.0) @ y,
    lambda dy, t, y: (_lagrange_back(dy, t, y), dy * _lagrange(t, 2.0)),
)


pair(
    "cubic hermite spline",
    [n(5), n(5), between(0.1, 3.9, 6)],
    lambda y, m, t: _spline(y, m, t)[0],
    lambda dy, y, m, t: _spline_back(dy, y, m, t),
)


pair(
    "roots to coefficients",
    [n(4)],
    np.poly,
    lambda dy, r: np.array([-dy[1:] @ np.poly(np.delete(r, k)) for k in range(4)]),
)


pair("lennard-jones", [rising(4)], lambda x: _jones(x).sum(), lambda dy, x: dy * _jones_slope(x))


pair(
    "gravity at any scale",
    [scaled(rising(5), 40), scaled(between(1, 2, 5), 40)],
    lambda x, m: _gravity(x, m),
    lambda dy, x, m: _gravity_back(dy, x, m),
)


pair(
    "heat step",
    [n(7), between(0.1, 0.4)],
    lambda u, k: u + k * (np.roll(u, 1) - 2 * u + np.roll(u, -1)),
    lambda dy, u, k: (
        dy + k * (np.roll(dy, 1) - 2 * dy + np.roll(dy, -1)),
        np.asarray(dy @ (np.roll(u, 1) - 2 * u + np.roll(u, -1))),
    ),
)


pair("wave steps", [n(6), n(6)], lambda u, v: _wave(u, v), lambda a, b, u, v: _wave_back(a, b))


pair(
    "upwind flux",
    [n(6)],
    lambda u: np.maximum(u, 0) * np.roll(u, 1) + np.minimum(u, 0) * np.roll(u, -1),
    lambda dy, u: (
        dy * np.where(u > 0, np.roll(u, 1), np.roll(u, -1))
        + np.roll(dy * np.maximum(u, 0), -1)
        + np.roll(dy * np.minimum(u, 0), 1)
    ),
)


pair(
    "ising energy",
    [n(4, 4)],
    lambda s: -(np.tanh(s) * np.roll(np.tanh(s), 1, 0)).sum(),
    lambda dy, s: -dy * (1 - np.tanh(s) ** 2) * (np.roll(np.tanh(s), 1, 0) + np.roll(np.tanh(s), -1, 0)),
)


pair(
    "spring network",
    [n(4, 2), whole(4, 5), between(0.5, 1, 5)],
    lambda x, i, r: _springs(x, i, r)[0],
    lambda dy, x, i, r: _springs(x, i, r)[1](dy),
)


pair(
    "relativistic sum",
    [between(-0.9, 0.9, 3), between(-0.9, 0.9, 3)],
    lambda u, v: (u + v) / (1 + u * v),
    lambda dy, u, v: (dy * (1 - v * v) / (1 + u * v) ** 2, dy * (1 - u * u) / (1 + u * v) ** 2),
)


def _legendre_slope(c, x):
    """P′ of degree k: (k/(x² − 1)) (x P_k − P_{k−1})"""
    P = _legendre(x, 5)
    slopes = np.arange(1, 5) * (x[:, None] * P[:, 1:] - P[:, :-1]) / (x * x - 1)[:, None]
    return slopes @ c[1:]


def _lagrange(t, x):
    return np.array([np.prod((x - np.delete(t, k)) / (t[k] - np.delete(t, k))) for k in range(4)])


def _lagrange_back(dy, t, y):
    """dt = −ℓ_k(x) p′(t_k)"""
    p = np.linalg.solve(np.vander(t, 4), y)
    return -dy * _lagrange(t, 2.0) * np.polyval(p[:-1] * np.arange(3, 0, -1), t)


def _spline(y, m, t):
    i = t.astype(int)
    s = t - i
    h = np.stack([2 * s**3 - 3 * s**2 + 1, s**3 - 2 * s**2 + s, 3 * s**2 - 2 * s**3, s**3 - s**2])
    slope = np.stack([6 * s**2 - 6 * s, 3 * s**2 - 4 * s + 1, 6 * s - 6 * s**2, 3 * s**2 - 2 * s])
    parts = np.stack([y[i], m[i], y[i + 1], m[i + 1]])
    return (h * parts).sum(0), (slope * parts).sum(0), h, i


def _spline_back(dy, y, m, t):
    _, slope, h, i = _spline(y, m, t)
    return (
        np.bincount(i, dy * h[0], 5) + np.bincount(i + 1, dy * h[2], 5),
        np.bincount(i, dy * h[1], 5) + np.bincount(i + 1, dy * h[3], 5),
        dy * slope,
    )


def _gaps(x):
    i, j = np.triu_indices(len(x), 1)
    return i, j, x[j] - x[i]


def _jones(x):
    return _gaps(x)[2] ** -12.0 - 2 * _gaps(x)[2] ** -6.0


def _jones_slope(x):
    i, j, r = _gaps(x)
    force = -12 * r**-13.0 + 12 * r**-7.0
    return np.bincount(j, force, len(x)) - np.bincount(i, force, len(x))


def _gravity(x, m):
    i, j, r = _gaps(x)
    return -(m[i] * (m[j] / r)).sum()


def _gravity_back(dy, x, m):
    i, j, r = _gaps(x)
    pull = dy * (m[i] / r) * (m[j] / r)
    return (
        np.bincount(j, pull, 5) - np.bincount(i, pull, 5),
        -dy * (np.bincount(i, m[j] / r, 5) + np.bincount(j, m[i] / r, 5)),
    )


def _wave(u, v):
    for _ in range(3):
        v = v + 0.3 * (np.roll(u, 1) - 2 * u + np.roll(u, -1))
        u = u + 0.3 * v
    return u, v


def _wave_back(du, dv):
    for _ in range(3):
        dv = dv + 0.3 * du
        du = du + 0.3 * (np.roll(dv, 1) - 2 * dv + np.roll(dv, -1))
    return du, dv


def _springs(x, i, r):
    d = x[i] - np.array([[2.0, 1.0]])
    size = np.sqrt((d * d).sum(1))
    y = ((size - r) ** 2).sum() / 2

    def backward(dy):
        dx = np.zeros_like(x)
        np.add.at(dx, i, dy * ((size - r) / size)[:, None] * d)
        return dx, None, -dy * (size - r)

    return y, backward
