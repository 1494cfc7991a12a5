"""Of two or more arrays: factors swapped, sums forgotten, one of several gradients wrong."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import true, wrong


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


# fmt: off
wrong("product", "the two swapped", lambda dy, x, z: (x * dy, z * dy))
wrong("quotient", "the numerator forgotten", lambda dy, x, z: (dy / z, -dy / (z * z)))
wrong("power", "the exponent not lowered", lambda dy, x, z: (dy * z * x**z, dy * x**z * np.log(x)))
wrong("hypotenuse", "not divided by the length", lambda dy, x, z: (dy * x, dy * z))
wrong("angle", "the sign of both", lambda dy, x, z: (-dy * z / (x * x + z * z), dy * x / (x * x + z * z)))
wrong("maximum", "half to each", lambda dy, x, z: (dy / 2, dy / 2))
wrong("minimum of three", "the third in the place of the second", lambda dy, x, y, z: (
    true("minimum of three", dy, x, y, z)[0], dy * ((z <= x) & (z <= y)), dy * ((y <= x) & (y < z))))
wrong("log add exp", "both weights of the first", lambda dy, x, z: (dy * _sigmoid(x - z), dy * _sigmoid(x - z)))
wrong("remainder", "the quotient floored", lambda dy, x, z: (dy, -dy * np.floor(x / z)))
wrong("interpolated", "the weights swapped", lambda dy, a, b, t: (t * dy, (1 - t) * dy, (b - a) * dy))
wrong("copied sign", "the first's own sign forgotten", lambda dy, x, z: (dy * np.sign(z), 0 * dy))
wrong("cross entropy of numbers", "p in place of its logarithm", lambda dy, x, p: (dy * p, dy * x / p))
wrong("geometric mean", "the ratio upside down", lambda dy, x, z: (
    dy * np.sqrt(x / z) / 2, dy * np.sqrt(z / x) / 2))
wrong("harmonic mean", "as if the sum were constant", lambda dy, x, z: (2 * dy * z / (x + z), 2 * dy * x / (x + z)))
wrong("complex product", "not conjugated", lambda du, dv, a, b, c, d: (
    du * c - dv * d, du * d + dv * c, du * a - dv * b, du * b + dv * a))
wrong("to polar", "the angle not divided by the radius", lambda dr, da, x, y: (
    dr * x / np.hypot(x, y) - da * y, dr * y / np.hypot(x, y) + da * x))
wrong("cross ratio", "the fourth point held", lambda dy, a, b, c, d: (*true("cross ratio", dy, a, b, c, d)[:3], 0 * dy))
wrong("chosen by a mask", "the mask not negated for the other", lambda dy, m, x, z: (
    None, np.where(m, dy * np.cos(x), 0), np.where(m, 2 * z * dy, 0)))
wrong("chosen by a sign", "the other branch leaks a percent", lambda dy, x, z: (
    np.where(x > 0, dy * z, -0.99 * dy), np.where(x > 0, dy * x, dy)))
wrong("broadcast sum", "a mean where the sum should be", lambda dy, x, z: (
    dy.mean(1, keepdims=True), dy.sum((0, 2))[:, None]))
wrong("broadcast product", "the first of the leading axes for their sum", lambda dy, a, b, c: (
    (dy * b * c)[0].sum(0), (dy * a * c).sum((0, 2))[:, None], (dy * a * b).sum((1, 2))[:, None, None]))
wrong("gated unit", "the gate's own slope of x", lambda dy, x, g: (
    dy * _sigmoid(g), dy * x * _sigmoid(x) * _sigmoid(-x)))
wrong("sum and difference", "both outputs summed for both", lambda ds, dd, x, z: (ds + dd, ds + dd))
wrong("sum and difference", "the second output's dy a little off", lambda ds, dd, x, z: (
    ds + dd * (1 + 2e-5), ds - dd * (1 + 2e-5)))
wrong("snake", "the frequency's division held", lambda dy, x, a: (
    dy * (1 + np.sin(2 * a * x)), dy * x * np.sin(2 * a * x) / a))
wrong("product", "one factor a thousandth too large", lambda dy, x, z: (1.001 * dy * z, x * dy))
wrong("ratio at any scale", "the scale held constant", lambda dy, x, z: _held_ratio(dy, x, z))
wrong("agm", "one step too few undone", lambda dy, x, z: (dy / 2, dy / 2))
wrong("dual_product", "the ε part reaches z alone", lambda dv, de, x, z: (2 * x * dv, 2 * x * de))
wrong("scaled_hypotenuse", "divided by the larger and not the length", lambda dy, x: dy * (x / np.abs(x).max(0)))
# fmt: on


def _held_ratio(dy, x, z):
    q = x / z
    s = np.abs(q).max()
    dq = dy * (1 - np.tanh(q / s) ** 2) / s
    return dq / z, -dq * q / z
