"""Two or more arrays, element by element."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import apart, between, coin, n, pair, right, scaled

X, Z = n(3, 4), n(3, 4)
P, Q = between(0.3, 3, 3, 4), between(0.3, 3, 3, 4)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


# fmt: off
pair("product", [scaled(n(3, 4)), scaled(n(3, 4))], lambda x, z: x * z, lambda dy, x, z: (z * dy, x * dy))
pair("quotient", [X, Q], lambda x, z: x / z, lambda dy, x, z: (dy / z, -dy * x / (z * z)))
pair("power", [P, X], lambda x, z: x**z, lambda dy, x, z: (dy * z * x ** (z - 1), dy * x**z * np.log(x)))
pair("hypotenuse", [X, Z], np.hypot, lambda dy, x, z: (dy * x / np.hypot(x, z), dy * z / np.hypot(x, z)))
pair("angle", [X, Z], np.arctan2, lambda dy, x, z: (dy * z / (x * x + z * z), -dy * x / (x * x + z * z)))
pair("maximum", [X, Z], np.maximum, lambda dy, x, z: (dy * (x > z), dy * (x <= z)))
pair("minimum of three", [X, Z, n(3, 4)], lambda x, y, z: np.minimum(np.minimum(x, y), z), lambda dy, x, y, z: (
    dy * ((x < y) & (x < z)), dy * ((y <= x) & (y < z)), dy * ((z <= x) & (z <= y))
))
pair("log add exp", [X, Z], np.logaddexp, lambda dy, x, z: (dy * _sigmoid(x - z), dy * _sigmoid(z - x)))
pair("remainder", [apart(3, 4), between(0.4, 0.7, 3, 4)], np.fmod, lambda dy, x, z: (dy, -dy * np.trunc(x / z)))
pair("interpolated", [X, Z, n(3, 4)], lambda a, b, t: a + t * (b - a), lambda dy, a, b, t: (
    (1 - t) * dy, t * dy, (b - a) * dy
))
pair("copied sign", [X, Z], np.copysign, lambda dy, x, z: (dy * np.sign(x) * np.sign(z), 0 * dy))
pair("cross entropy of numbers", [X, P], lambda x, p: x * np.log(p), lambda dy, x, p: (dy * np.log(p), dy * x / p))
pair("geometric mean", [P, Q], lambda x, z: np.sqrt(x * z), lambda dy, x, z: (
    dy * np.sqrt(z / x) / 2, dy * np.sqrt(x / z) / 2
))
pair("harmonic mean", [P, Q], lambda x, z: 2 * x * z / (x + z), lambda dy, x, z: (
    2 * dy * (z / (x + z)) ** 2, 2 * dy * (x / (x + z)) ** 2
))
pair("complex product", [X, Z, n(3, 4), n(3, 4)], lambda a, b, c, d: (a * c - b * d, a * d + b * c),
     lambda du, dv, a, b, c, d: (
         du * c + dv * d, -du * d + dv * c, du * a + dv * b, -du * b + dv * a))
pair("to polar", [P, X], lambda x, y: (np.sqrt(x * x + y * y), np.arctan(y / x)), lambda dr, da, x, y: (
    (dr * x * np.sqrt(x * x + y * y) - da * y) / (x * x + y * y),
    (dr * y * np.sqrt(x * x + y * y) + da * x) / (x * x + y * y),
))
pair("cross ratio", [between(0, 1, 5), between(2, 3, 5), between(4, 5, 5), between(6, 7, 5)],
     lambda a, b, c, d: (a - c) * (b - d) / ((b - c) * (a - d)), lambda dy, a, b, c, d: tuple(
         dy * (a - c) * (b - d) / ((b - c) * (a - d)) * part for part in (
             1 / (a - c) - 1 / (a - d), 1 / (b - d) - 1 / (b - c),
             -1 / (a - c) + 1 / (b - c), -1 / (b - d) + 1 / (a - d))))
pair("chosen by a mask", [coin(3, 4), X, Z], lambda m, x, z: np.where(m, np.sin(x), z * z), lambda dy, m, x, z: (
    None, np.where(m, dy * np.cos(x), 0), np.where(m, 0, 2 * z * dy)
))
pair("chosen by a sign", [X, Z], lambda x, z: np.where(x > 0, x * z, z - x), lambda dy, x, z: (
    np.where(x > 0, dy * z, -dy), np.where(x > 0, dy * x, dy)
))
pair("broadcast sum", [n(3, 1, 4), n(5, 1)], lambda x, z: x + z, lambda dy, x, z: (
    dy.sum(1, keepdims=True), dy.sum((0, 2))[:, None]
))
pair("broadcast product", [n(4), n(3, 1), n(2, 1, 1)], lambda a, b, c: a * b * c, lambda dy, a, b, c: (
    (dy * b * c).sum((0, 1)), (dy * a * c).sum((0, 2))[:, None], (dy * a * b).sum((1, 2))[:, None, None]
))
pair("gated unit", [X, Z], lambda x, g: x * _sigmoid(g), lambda dy, x, g: (
    dy * _sigmoid(g), dy * x * _sigmoid(g) * _sigmoid(-g)
))
pair("sum and difference", [X, Z], lambda x, z: (x + z, x - z), lambda ds, dd, x, z: (ds + dd, ds - dd))
pair("snake", [X, P], lambda x, a: x + np.sin(a * x) ** 2 / a, lambda dy, x, a: (
    dy * (1 + np.sin(2 * a * x)), dy * (x * np.sin(2 * a * x) / a - np.sin(a * x) ** 2 / a**2)
))
pair("ratio at any scale", [scaled(n(5), 140), scaled(between(1, 2, 5), 140)], lambda x, z: np.tanh(x / z / (
    np.abs(x / z).max()
)), lambda dy, x, z: _ratio(dy, x, z))
# fmt: on


def _ratio(dy, x, z):
    """With q = x/z and s = |q_k| the largest: dq = dt/s, and dq_k −= sign(q_k) ⟨dt, q⟩/s²."""
    q = x / z
    k = np.abs(q).argmax()
    s = np.abs(q[k])
    dt = dy * (1 - np.tanh(q / s) ** 2)
    dq = dt / s
    dq[k] -= np.sign(q[k]) * (dt * (q / s)).sum() / s
    return dq / z, -dq * q / z


@right(P, Q)
def agm(x, z):
    """a, b ← (a + b)/2, √(ab) six times; each step is undone in reverse."""
    steps = [(x, z)]
    for _ in range(6):
        a, b = steps[-1]
        steps.append(((a + b) / 2, np.sqrt(a * b)))

    def backward(dy):
        da, db = dy, 0 * dy
        for (a, b), (_, root) in zip(steps[-2::-1], steps[::-1], strict=False):
            da, db = da / 2 + db * b / (2 * root), da / 2 + db * a / (2 * root)
        return da, db

    return steps[-1][0], backward


@right(X, Z)
def dual_product(x, z):
    """(x + zε)²: value x², ε part 2xz."""
    return (x * x, 2 * x * z), lambda dv, de: (2 * x * dv + 2 * z * de, 2 * x * de)


@right(scaled(n(2, 4, 3)))
def scaled_hypotenuse(x):
    """r = m √((x₀/m)² + (x₁/m)²), which no scale overflows;    dx = dy x/r"""
    m = np.abs(x).max(0)
    r = m * np.sqrt(((x / m) ** 2).sum(0))
    return r, lambda dy: dy * (x / r)
