"""Rotations, projections, distances; polynomials and splines; physics."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import between, fixed, n, pair, right

V = n(3)


def corner(x, y):
    return lambda r: np.array([x, y]) + r.uniform(0, 0.4, 2)


def quaternion_product(a, b):
    w, v, s, u = a[0], a[1:], b[0], b[1:]
    return np.concatenate([[w * s - v @ u], w * u + s * v + np.cross(v, u)])


def _conj(q):
    return q * np.array([1, -1, -1, -1])


# fmt: off
pair("quaternions multiplied", [n(4), n(4)], quaternion_product, lambda dy, a, b: (
    quaternion_product(dy, _conj(b)), quaternion_product(_conj(a), dy)))
pair("euclidean distances", [n(4, 2), n(3, 2)], lambda x, z: np.sqrt(((x[:, None] - z) ** 2).sum(-1)),
     lambda dy, x, z: (
    _distances(dy, x, z)))
pair("cosine similarities", [n(3, 4), n(2, 4)], lambda x, z: _unit(x) @ _unit(z).T, lambda dy, x, z: (
    _unit_back(dy @ _unit(z), x), _unit_back(dy.T @ _unit(x), z)))
pair("hyperbolic distance", [between(-0.5, 0.5, 2), between(-0.5, 0.5, 2)], lambda x, z: np.arccosh(
    1 + 2 * (x - z) @ (x - z) / ((1 - x @ x) * (1 - z @ z))), lambda dy, x, z: _poincare(dy, x, z))
pair("great circle", [between(-1, 1, 2), between(-1, 1, 2)], lambda p, q: np.arccos(_sphere(p) @ _sphere(q)),
     lambda dy, p, q: (_great_circle(dy, p, q), _great_circle(dy, q, p)))
pair("pinhole projection", [n(4, 3), n(2)], lambda x, f: f * x[:, :2] / (3 + np.exp(x[:, 2:])), lambda dy, x, f: (
    np.concatenate([dy * f / (3 + np.exp(x[:, 2:])), -(dy * f * x[:, :2]).sum(1, keepdims=True)
                    * np.exp(x[:, 2:]) / (3 + np.exp(x[:, 2:])) ** 2], 1),
    (dy * x[:, :2] / (3 + np.exp(x[:, 2:]))).sum(0)))
pair("projected on a line", [n(4, 3), V], lambda x, d: np.outer(x @ d, d) / (d @ d), lambda dy, x, d: (
    np.outer(dy @ d, d) / (d @ d),
    (x.T @ (dy @ d) + dy.T @ (x @ d)) / (d @ d) - 2 * d * ((x @ d) @ (dy @ d)) / (d @ d) ** 2))
pair("triangle area", [V, V, V], lambda a, b, c: np.linalg.norm(np.cross(b - a, c - a)) / 2, lambda dy, a, b, c: (
    _area(dy, a, b, c)))
pair("polygon area", [n(5, 2)], lambda p: (p[:, 0] * np.roll(p[:, 1], -1) - np.roll(p[:, 0], -1) * p[:, 1]).sum() / 2,
     lambda dy, p: dy / 2 * np.stack([np.roll(p[:, 1], -1) - np.roll(p[:, 1], 1),
                                      np.roll(p[:, 0], 1) - np.roll(p[:, 0], -1)], 1))
pair("tetrahedron volume", [n(3, 3)], lambda a: a[0] @ np.cross(a[1], a[2]) / 6, lambda dy, a: dy / 6 * np.stack([
    np.cross(a[1], a[2]), np.cross(a[2], a[0]), np.cross(a[0], a[1])]))
pair("box overlap", [corner(0.6, 0), corner(2, 1.2), corner(0, 0.6), corner(1.2, 2)],
     lambda a, b, c, d: np.maximum(0, np.minimum(b, d) - np.maximum(a, c)).prod(), lambda dy, a, b, c, d: (
         _overlap(dy, a, b, c, d)))
pair("chamfer distance", [n(4, 2), n(3, 2)], lambda x, z: ((x[:, None] - z) ** 2).sum(-1).min(1).sum(),
     lambda dy, x, z: (
    _chamfer(dy, x, z)))
pair("stereographic", [n(3, 2)], lambda x: np.c_[2 * x, (x * x).sum(1) - 1] / (1 + (x * x).sum(1))[:, None],
     lambda dy, x: 2 * dy[:, :2] / (1 + (x * x).sum(1))[:, None] + x * (
         4 * dy[:, 2] / (1 + (x * x).sum(1)) ** 2 - 4 * (dy[:, :2] * x).sum(1) / (1 + (x * x).sum(1)) ** 2
     )[:, None])
# fmt: on


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
    return (
        dc * (4 * d / (a * b) + 4 * x * (d @ d) / (a * a * b)),
        dc * (-4 * d / (a * b) + 4 * z * (d @ d) / (a * b * b)),
    )


def _sphere(p):
    return np.array([np.cos(p[0]) * np.cos(p[1]), np.cos(p[0]) * np.sin(p[1]), np.sin(p[0])])


def _great_circle(dy, p, q):
    c = _sphere(p) @ _sphere(q)
    J = np.array(
        [
            [-np.sin(p[0]) * np.cos(p[1]), -np.sin(p[0]) * np.sin(p[1]), np.cos(p[0])],
            [-np.cos(p[0]) * np.sin(p[1]), np.cos(p[0]) * np.cos(p[1]), 0],
        ]
    )
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
