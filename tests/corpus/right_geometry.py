"""Rotations, projections, distances; polynomials and splines; physics."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import apart, between, fixed, n, pair, right, rising, scaled, whole

V = n(3)


def _hat(w):
    return np.cross(np.eye(3), w) * -1


def _unhat(d):
    """The gradient of w where that of hat(w) is d."""
    return np.array([d[2, 1] - d[1, 2], d[0, 2] - d[2, 0], d[1, 0] - d[0, 1]])


def quaternion_product(a, b):
    w, v, s, u = a[0], a[1:], b[0], b[1:]
    return np.concatenate([[w * s - v @ u], w * u + s * v + np.cross(v, u)])


def _conj(q):
    return q * np.array([1, -1, -1, -1])


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


pair("quaternions multiplied", [n(4), n(4)], quaternion_product, lambda dy, a, b: (
    quaternion_product(dy, _conj(b)), quaternion_product(_conj(a), dy)))  # fmt: skip
pair("euclidean distances", [n(4, 2), n(3, 2)], lambda x, z: np.sqrt(((x[:, None] - z) ** 2).sum(-1)), lambda dy, x, z: (
    _distances(dy, x, z)))  # fmt: skip
pair("cosine similarities", [n(3, 4), n(2, 4)], lambda x, z: _unit(x) @ _unit(z).T, lambda dy, x, z: (
    _unit_back(dy @ _unit(z), x), _unit_back(dy.T @ _unit(x), z)))  # fmt: skip
pair("hyperbolic distance", [between(-0.5, 0.5, 2), between(-0.5, 0.5, 2)], lambda x, z: np.arccosh(
    1 + 2 * (x - z) @ (x - z) / ((1 - x @ x) * (1 - z @ z))), lambda dy, x, z: _poincare(dy, x, z))  # fmt: skip
pair("great circle", [between(-1, 1, 2), between(-1, 1, 2)], lambda p, q: np.arccos(_sphere(p) @ _sphere(q)),
     lambda dy, p, q: (_great_circle(dy, p, q), _great_circle(dy, q, p)))  # fmt: skip
pair("pinhole projection", [n(4, 3), n(2)], lambda x, f: f * x[:, :2] / (3 + np.exp(x[:, 2:])), lambda dy, x, f: (
    np.concatenate([dy * f / (3 + np.exp(x[:, 2:])), -(dy * f * x[:, :2]).sum(1, keepdims=True)
                    * np.exp(x[:, 2:]) / (3 + np.exp(x[:, 2:])) ** 2], 1),
    (dy * x[:, :2] / (3 + np.exp(x[:, 2:]))).sum(0)))  # fmt: skip
pair("projected on a line", [n(4, 3), V], lambda x, d: np.outer(x @ d, d) / (d @ d), lambda dy, x, d: (
    np.outer(dy @ d, d) / (d @ d),
    (x.T @ (dy @ d) + dy.T @ (x @ d)) / (d @ d) - 2 * d * ((x @ d) @ (dy @ d)) / (d @ d) ** 2))  # fmt: skip
pair("triangle area", [V, V, V], lambda a, b, c: np.linalg.norm(np.cross(b - a, c - a)) / 2, lambda dy, a, b, c: (
    _area(dy, a, b, c)))  # fmt: skip
pair("polygon area", [n(5, 2)], lambda p: (p[:, 0] * np.roll(p[:, 1], -1) - np.roll(p[:, 0], -1) * p[:, 1]).sum() / 2,
     lambda dy, p: dy / 2 * np.stack([np.roll(p[:, 1], -1) - np.roll(p[:, 1], 1),
                                      np.roll(p[:, 0], 1) - np.roll(p[:, 0], -1)], 1))  # fmt: skip
pair("tetrahedron volume", [n(3, 3)], lambda a: a[0] @ np.cross(a[1], a[2]) / 6, lambda dy, a: dy / 6 * np.stack([
    np.cross(a[1], a[2]), np.cross(a[2], a[0]), np.cross(a[0], a[1])]))  # fmt: skip
pair("box overlap", [between(0, 1, 2), between(1.2, 2.5, 2), between(0, 1, 2), between(1.2, 2.5, 2)],
     lambda a, b, c, d: np.maximum(0, np.minimum(b, d) - np.maximum(a, c)).prod(), lambda dy, a, b, c, d: (
         _overlap(dy, a, b, c, d)))  # fmt: skip
pair("chamfer distance", [n(4, 2), n(3, 2)], lambda x, z: ((x[:, None] - z) ** 2).sum(-1).min(1).sum(), lambda dy, x, z: (
    _chamfer(dy, x, z)))  # fmt: skip
pair("stereographic", [n(3, 2)], lambda x: np.c_[2 * x, (x * x).sum(1) - 1] / (1 + (x * x).sum(1))[:, None],
     lambda dy, x: 2 * dy[:, :2] / (1 + (x * x).sum(1))[:, None] + x * (
         4 * dy[:, 2] / (1 + (x * x).sum(1)) ** 2 - 4 * (dy[:, :2] * x).sum(1) / (1 + (x * x).sum(1)) ** 2
     )[:, None])  # fmt: skip
pair("chebyshev series", [n(5), between(-0.9, 0.9, 4)], _chebyshev, lambda dy, c, x: (
    np.cos(np.arange(5) * np.arccos(x)[:, None]).T @ dy,
    dy * ((np.arange(5) * np.sin(np.arange(5) * np.arccos(x)[:, None])) @ c) / np.sqrt(1 - x * x)))  # fmt: skip
pair("legendre series", [n(5), between(-0.9, 0.9, 4)], lambda c, x: _legendre(x, 5) @ c, lambda dy, c, x: (
    _legendre(x, 5).T @ dy, dy * _legendre_slope(c, x)))  # fmt: skip
pair("hermite series", [n(5), n(3)], lambda c, x: _hermite(x, 5) @ c, lambda dy, c, x: (
    _hermite(x, 5).T @ dy, dy * (_hermite(x, 4) @ (2 * np.arange(1, 5) * c[1:]))))  # fmt: skip
pair("bezier curve", [n(4, 2), between(0.05, 0.95, 5)], lambda p, t: _bernstein(t, 3) @ p, lambda dy, p, t: (
    _bernstein(t, 3).T @ dy, (dy * (3 * _bernstein(t, 2) @ np.diff(p, axis=0))).sum(1)))  # fmt: skip
pair("lagrange interpolation", [apart(4), n(4)], lambda t, y: _lagrange(t, 2.0) @ y, lambda dy, t, y: (
    _lagrange_back(dy, t, y), dy * _lagrange(t, 2.0)))  # fmt: skip
pair("cubic hermite spline", [n(5), n(5), between(0.1, 3.9, 6)], lambda y, m, t: _spline(y, m, t)[0], lambda dy, y, m, t: (
    _spline_back(dy, y, m, t)))  # fmt: skip
pair("roots to coefficients", [n(4)], np.poly, lambda dy, r: np.array([
    -dy[1:] @ np.poly(np.delete(r, k)) for k in range(4)]))  # fmt: skip
pair("lennard-jones", [rising(4)], lambda x: _jones(x).sum(), lambda dy, x: dy * _jones_slope(x))
pair("gravity at any scale", [scaled(rising(5), 40), scaled(between(1, 2, 5), 40)],
     lambda x, m: _gravity(x, m), lambda dy, x, m: _gravity_back(dy, x, m))  # fmt: skip
pair("heat step", [n(7), between(0.1, 0.4)], lambda u, k: u + k * (np.roll(u, 1) - 2 * u + np.roll(u, -1)), lambda dy, u, k: (
    dy + k * (np.roll(dy, 1) - 2 * dy + np.roll(dy, -1)),
    np.asarray(dy @ (np.roll(u, 1) - 2 * u + np.roll(u, -1)))))  # fmt: skip
pair("wave steps", [n(6), n(6)], lambda u, v: _wave(u, v), lambda a, b, u, v: _wave_back(a, b))
pair("upwind flux", [n(6)], lambda u: np.maximum(u, 0) * np.roll(u, 1) + np.minimum(u, 0) * np.roll(u, -1), lambda dy, u: (
    dy * np.where(u > 0, np.roll(u, 1), np.roll(u, -1)) + np.roll(dy * np.maximum(u, 0), -1)
    + np.roll(dy * np.minimum(u, 0), 1)))  # fmt: skip
pair("ising energy", [n(4, 4)], lambda s: -(np.tanh(s) * np.roll(np.tanh(s), 1, 0)).sum(), lambda dy, s: -dy * (
    1 - np.tanh(s) ** 2) * (np.roll(np.tanh(s), 1, 0) + np.roll(np.tanh(s), -1, 0)))  # fmt: skip
pair("spring network", [n(4, 2), whole(4, 5), between(0.5, 1, 5)], lambda x, i, r: _springs(x, i, r)[0], lambda dy, x, i, r: (
    _springs(x, i, r)[1](dy)))  # fmt: skip
pair("relativistic sum", [between(-0.9, 0.9, 3), between(-0.9, 0.9, 3)], lambda u, v: (u + v) / (1 + u * v), lambda dy, u, v: (
    dy * (1 - v * v) / (1 + u * v) ** 2, dy * (1 - u * u) / (1 + u * v) ** 2))  # fmt: skip


def _unit(x):
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def _unit_back(d, x):
    u = _unit(x)
    return (d - u * (d * u).sum(-1, keepdims=True)) / np.sqrt((x * x).sum(-1, keepdims=True))


def _distances(dy, x, z):
    d = x[:, None] - z
    pull = dy[..., None] * d / np.sqrt((d * d).sum(-1, keepdims=True))
    return pull.sum(1), -pull.sum(0)


def _poincare(dy, x, z):
    a, b, d = 1 - x @ x, 1 - z @ z, x - z
    c = 1 + 2 * d @ d / (a * b)
    dc = dy / np.sqrt(c * c - 1)
    return (dc * (4 * d / (a * b) + 4 * x * (d @ d) / (a * a * b)),
            dc * (-4 * d / (a * b) + 4 * z * (d @ d) / (a * b * b)))  # fmt: skip


def _sphere(p):
    return np.array([np.cos(p[0]) * np.cos(p[1]), np.cos(p[0]) * np.sin(p[1]), np.sin(p[0])])


def _great_circle(dy, p, q):
    c = _sphere(p) @ _sphere(q)
    J = np.array([[-np.sin(p[0]) * np.cos(p[1]), -np.sin(p[0]) * np.sin(p[1]), np.cos(p[0])],
                  [-np.cos(p[0]) * np.sin(p[1]), np.cos(p[0]) * np.cos(p[1]), 0]])  # fmt: skip
    return -dy * J @ _sphere(q) / np.sqrt(1 - c * c)


def _area(dy, a, b, c):
    """With N = u × v and its unit, d|N|/du = v × N̂ and d|N|/dv = N̂ × u."""
    u, v = b - a, c - a
    N = _unit(np.cross(u, v))
    du, dv = dy / 2 * np.cross(v, N), dy / 2 * np.cross(N, u)
    return -du - dv, du, dv


def _overlap(dy, a, b, c, d):
    sides = np.maximum(0, np.minimum(b, d) - np.maximum(a, c))
    pull = dy * sides[::-1] * (sides > 0)
    return -pull * (a > c), pull * (b < d), -pull * (a <= c), pull * (b >= d)


def _chamfer(dy, x, z):
    k = ((x[:, None] - z) ** 2).sum(-1).argmin(1)
    pull, dz = 2 * dy * (x - z[k]), np.zeros_like(z)
    np.add.at(dz, k, -pull)
    return pull, dz


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
    return (np.bincount(i, dy * h[0], 5) + np.bincount(i + 1, dy * h[2], 5),
            np.bincount(i, dy * h[1], 5) + np.bincount(i + 1, dy * h[3], 5), dy * slope)  # fmt: skip


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
    return (np.bincount(j, pull, 5) - np.bincount(i, pull, 5),
            -dy * (np.bincount(i, m[j] / r, 5) + np.bincount(j, m[i] / r, 5)))  # fmt: skip


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


@right(V, n(4, 3))
def rotated_by_rodrigues(w, x):
    """x cos θ + (k × x) sin θ + k (k·x)(1 − cos θ) with θ = |w|, k = w/θ"""
    t = np.sqrt(w @ w)
    k = w / t
    c, s = np.cos(t), np.sin(t)
    along = x @ k

    def backward(dy):
        dt = (dy * (-x * s + np.cross(k, x) * c + np.outer(along, k) * s)).sum()
        dk = s * np.cross(x, dy).sum(0) + (1 - c) * (x.T @ (dy @ k) + dy.T @ along)
        dx = dy * c - s * np.cross(k, dy) + (1 - c) * np.outer(dy @ k, k)
        return dt * k + (dk - k * (k @ dk)) / t, dx

    return x * c + np.cross(k, x) * s + np.outer(along, k) * (1 - c), backward


@right(V, V)
def barycentric(p, q):
    """Weights of the point q₀, q₁ in a constant triangle moved by p: a solve of three."""
    T = np.vstack([fixed(2, 3), np.ones(3)]) + np.outer([1, 1, 0], np.tanh(p))
    y = np.linalg.solve(T, q)

    def backward(dy):
        dq = np.linalg.solve(T.T, dy)
        return -(dq[:2].sum() * y) * (1 - np.tanh(p) ** 2), dq

    return y, backward


@right(n(4), n(3))
def rotated_by_quaternion(q, v):
    """v + 2 u × (u × v + w v) with q made a unit"""
    size = np.sqrt(q @ q)
    w, u = q[0] / size, q[1:] / size
    inner = np.cross(u, v) + w * v

    def backward(dy):
        di = 2 * np.cross(dy, u)
        du = 2 * np.cross(inner, dy) + np.cross(v, di)
        dunit = np.concatenate([[di @ v], du])
        dv = dy + w * di + np.cross(di, u)
        return (dunit - q / size * (dunit @ q / size)) / size, dv

    return v + 2 * np.cross(u, inner), backward
