"""Of geometry, polynomials and physics."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import fixed, only_first, only_last, spoilt, true, wrong
from tests.corpus.right_geometry import quaternion_product

# fmt: off
only_first("quaternions multiplied", "not conjugated", lambda g, dy, a, b: quaternion_product(dy, b))
only_last("quaternions multiplied", "multiplied from the other side", lambda g, dy, a, b: quaternion_product(
    dy, a * np.array([1, -1, -1, -1])))
only_first("euclidean distances", "of the squares", lambda g, dy, x, z: 2 * (dy[..., None] * (x[:, None] - z)).sum(1))
only_last("cosine similarities", "the first's unit for its own", lambda g, dy, x, z: g * np.linalg.norm(
    z, axis=1, keepdims=True))
only_first("hyperbolic distance", "the metric's factor alone", lambda g, dy, x, z: dy * 2 * (x - z) / (1 - x @ x))
only_first("great circle", "longitude by its circle", lambda g, dy, p, q: g / np.array([1, np.cos(p[0])]))
only_last("pinhole projection", "focal lengths swapped", lambda g, dy, x, f: g[::-1])
only_last("projected on a line", "its length held", lambda g, dy, x, d: (
    x.T @ (dy @ d) + dy.T @ (x @ d)) / (d @ d))
only_first("triangle area", "the two other corners' sum without its sign", lambda g, *_: -g)
wrong("polygon area", "not closed", lambda dy, p: true("polygon area", dy, p) - dy / 2 * np.array(
    [[0, -p[4, 0]]] + [[0, 0]] * 4))
wrong("tetrahedron volume", "one product in the other order",
     lambda dy, a: true("tetrahedron volume", dy, a) * np.array(
    [[1], [-1], [1]]))
only_first("box overlap", "its own side for the other", lambda g, dy, a, b, c, d: g / 2 - 0.01)
only_first("chamfer distance", "to every point", lambda g, dy, x, z: 2 * dy * (3 * x - z.sum(0)))
spoilt("stereographic", "the pole's part lost",
     lambda g, dy, x: g - 4 * x * (dy[:, 2] / (1 + (x * x).sum(1)) ** 2)[:, None])
only_last("chebyshev series", "of the second kind, by its degree", lambda g, dy, c, x: g * np.sqrt(1 - x * x))
only_first("legendre series", "normalised", lambda g, dy, c, x: g * np.sqrt(np.arange(5) + 0.5))
only_last("hermite series", "the other scaling's slope", lambda g, dy, c, x: g / 2)
only_last("bezier curve", "the degree forgotten", lambda g, dy, p, t: g / 3)
only_first("lagrange interpolation", "the weights held", lambda g, dy, t, y: dy * y / (2.0 - t))
only_last("cubic hermite spline", "the tangents forgotten", lambda g, dy, y, m, t: true(
    "cubic hermite spline", dy, y, 0 * m, t)[2])
spoilt("roots to coefficients", "the signs of even degrees", lambda g, dy, r: np.array([
    dy[1:] * [1, -1, 1, -1] @ np.poly(np.delete(r, k)) for k in range(4)]))
wrong("lennard-jones", "third law broken", lambda dy, x: np.maximum(true("lennard-jones", dy, x), 0))
only_last("gravity at any scale", "each pair for the lighter", lambda g, dy, x, m: g * (np.arange(5) < 4))
only_first("gravity at any scale", "a softened force", lambda g, dy, x, m: g * 0.9999)
only_last("heat step", "the middle counted once", lambda g, dy, u, k: g + dy @ u)
wrong("wave steps", "two of three steps", lambda a, b, u, v: (
    true("wave steps", (a, b), u, v)[0], b + 0.6 * a))
wrong("upwind flux", "downwind", lambda dy, u: dy * np.where(u > 0, np.roll(u, 1), np.roll(u, -1)) + np.roll(
    dy * np.minimum(u, 0), -1) + np.roll(dy * np.maximum(u, 0), 1))
spoilt("ising energy", "one neighbour of two", lambda g, dy, s: -dy * (1 - np.tanh(s) ** 2) * np.roll(np.tanh(s), 1, 0))
wrong("spring network", "a node's springs set and not added", lambda dy, x, i, r: _springs(dy, x, i, r))
only_first("relativistic sum", "by Galileo", lambda g, dy, u, v: dy)
only_first("rotated_by_rodrigues", "the angle held", lambda g, dy, w, x: g - w * (w @ g) / (w @ w))
only_last("rotated_by_rodrigues", "turned forwards", lambda g, dy, w, x: true("rotated_by_rodrigues", dy, -w, x)[1])
only_last("barycentric", "not transposed", lambda g, dy, p, q: np.linalg.solve(
    np.vstack([fixed(2, 3), np.ones(3)]) + np.outer([1, 1, 0], np.tanh(p)), dy))
only_first("rotated_by_quaternion", "not made tangent", lambda g, dy, q, v: g + q * 0.01 * dy.sum())
# fmt: on


def _springs(dy, x, i, r):
    d = x[i] - np.array([[2.0, 1.0]])
    size = np.sqrt((d * d).sum(1))
    dx = np.zeros_like(x)
    dx[i] = dy * ((size - r) / size)[:, None] * d
    return dx, None, -dy * (size - r)
