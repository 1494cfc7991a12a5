"""One array, element by element: y = f(x), dx = f′(x) dy."""

from __future__ import annotations

import math

import numpy as np

from tests.corpus.case import between, elementwise, mildly, n

X = n(3, 4)
POSITIVE = between(0.3, 3, 3, 4)
UNIT = between(-0.9, 0.9, 3, 4)
_erf, _gamma, _lgamma = (np.vectorize(f, otypes=[float]) for f in (math.erf, math.gamma, math.lgamma))
_THETA = (np.arange(64) + 0.5) * np.pi / 64


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _digamma(x):
    """By ψ(x) = ψ(x + 1) − 1/x up to 10, and the asymptotic series there."""
    total = 0.0
    for k in range(10):
        total = total - 1 / (x + k)
    z = x + 10
    return total + np.log(z) - 1 / (2 * z) - 1 / (12 * z**2) + 1 / (120 * z**4) - 1 / (252 * z**6) + 1 / (240 * z**8)


def _bessel(x, order):
    """Jₙ(x) = mean of cos(nθ − x sin θ), by a midpoint rule that is exact to rounding."""
    return np.cos(order * _THETA - x[..., None] * np.sin(_THETA)).mean(-1)


def _lambert(x):
    w = np.log1p(x)
    for _ in range(12):
        w = w - (w * np.exp(w) - x) / (np.exp(w) * (1 + w))
    return w


def _elliptic(m):
    """K(m) by the arithmetic-geometric mean."""
    a, b = np.ones_like(m), np.sqrt(1 - m)
    for _ in range(6):
        a, b = (a + b) / 2, np.sqrt(a * b)
    return np.pi / (2 * a)


def _elliptic_second(m):
    a, b, c, total = np.ones_like(m), np.sqrt(1 - m), np.sqrt(m), m / 2
    for k in range(6):
        a, b, c = (a + b) / 2, np.sqrt(a * b), (a - b) / 2
        total = total + 2.0**k * c * c
    return np.pi / (2 * a) * (1 - total)


def _gelu_slope(x):
    inner = 0.7978845608 * (x + 0.044715 * x**3)
    t = np.tanh(inner)
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608 * (1 + 3 * 0.044715 * x * x)


def _mish_slope(x):
    t = np.tanh(np.log1p(np.exp(x)))
    return t + x * (1 - t * t) * sigmoid(x)


# fmt: off
elementwise("sine", X, np.sin, np.cos)
elementwise("cosine", X, np.cos, lambda x: -np.sin(x))
elementwise("tangent", UNIT, np.tan, lambda x: 1 / np.cos(x) ** 2)
elementwise("arcsine", UNIT, np.arcsin, lambda x: 1 / np.sqrt(1 - x * x))
elementwise("arccosine", UNIT, np.arccos, lambda x: -1 / np.sqrt(1 - x * x))
elementwise("arctangent", X, np.arctan, lambda x: 1 / (1 + x * x))
elementwise("hyperbolic sine", X, np.sinh, np.cosh)
elementwise("hyperbolic cosine", X, np.cosh, np.sinh)
elementwise("hyperbolic tangent", X, np.tanh, lambda x: 1 - np.tanh(x) ** 2)
elementwise("area sine", X, np.arcsinh, lambda x: 1 / np.sqrt(1 + x * x))
elementwise("area cosine", between(1.2, 4, 3, 4), np.arccosh, lambda x: 1 / np.sqrt(x * x - 1))
elementwise("area tangent", UNIT, np.arctanh, lambda x: 1 / (1 - x * x))
elementwise("exponential", X, np.exp, np.exp)
elementwise("power of two", X, np.exp2, lambda x: np.log(2) * np.exp2(x))
elementwise("exponential less one", between(-1e-8, 1e-8, 3, 4), np.expm1, np.exp)
elementwise("logarithm", POSITIVE, np.log, lambda x: 1 / x)
elementwise("logarithm to 2", POSITIVE, np.log2, lambda x: 1 / (np.log(2) * x))
elementwise("logarithm to 10", POSITIVE, np.log10, lambda x: 1 / (np.log(10) * x))
elementwise("logarithm of one more", UNIT, np.log1p, lambda x: 1 / (1 + x))
elementwise("square root", POSITIVE, np.sqrt, lambda x: 0.5 / np.sqrt(x))
elementwise("cube root", X, np.cbrt, lambda x: 1 / (3 * np.cbrt(x) ** 2))
elementwise("reciprocal", POSITIVE, np.reciprocal, lambda x: -1 / (x * x))
elementwise("square", X, np.square, lambda x: 2 * x)
elementwise("cube", X, lambda x: x**3, lambda x: 3 * x * x)
elementwise("self power", POSITIVE, lambda x: x**x, lambda x: x**x * (1 + np.log(x)))
elementwise("absolute", X, np.abs, np.sign)
elementwise(
    "signed root", X, lambda x: np.sign(x) * np.sqrt(np.abs(x)), lambda x: 0.5 / np.sqrt(np.abs(x))
)
elementwise("signed square", X, lambda x: x * np.abs(x), lambda x: 2 * np.abs(x))
elementwise(
    "cardinal sine", X, np.sinc, lambda x: np.cos(np.pi * x) / x - np.sin(np.pi * x) / (np.pi * x * x)
)
elementwise("sigmoid", X, sigmoid, lambda x: sigmoid(x) * sigmoid(-x))
elementwise("softplus", X, lambda x: np.log1p(np.exp(x)), sigmoid)
elementwise("silu", X, lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x)))
elementwise(
    "gelu by tanh", X, lambda x: 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3))), _gelu_slope
)
elementwise(
    "gelu", X, lambda x: x * (1 + _erf(x / 2**0.5)) / 2,
    lambda x: (1 + _erf(x / 2**0.5)) / 2 + x * np.exp(-x * x / 2) / (2 * np.pi) ** 0.5,
)
elementwise("error function", X, _erf, lambda x: 2 / np.pi**0.5 * np.exp(-x * x))
elementwise("gamma function", POSITIVE, _gamma, lambda x: _gamma(x) * _digamma(x))
elementwise("log gamma", POSITIVE, _lgamma, _digamma)
elementwise("digamma", POSITIVE, _digamma, lambda x: sum(1 / (x + k) ** 2 for k in range(10)) + (
    1 / (x + 10) + 1 / (2 * (x + 10) ** 2) + 1 / (6 * (x + 10) ** 3) - 1 / (30 * (x + 10) ** 5)
    + 1 / (42 * (x + 10) ** 7) - 1 / (30 * (x + 10) ** 9)
))
elementwise("relu", X, lambda x: np.maximum(x, 0), lambda x: 1.0 * (x > 0))
elementwise("leaky relu", X, lambda x: np.where(x > 0, x, 0.1 * x), lambda x: np.where(x > 0, 1, 0.1))
elementwise("elu", X, lambda x: np.where(x > 0, x, np.expm1(x)), lambda x: np.where(x > 0, 1, np.exp(x)))
elementwise("mish", X, lambda x: x * np.tanh(np.log1p(np.exp(x))), _mish_slope)
elementwise(
    "hard swish", X, lambda x: x * np.clip(x + 3, 0, 6) / 6, lambda x: np.where(np.abs(x) < 3, (2 * x + 3) / 6, x > 3)
)
elementwise("softsign", X, lambda x: x / (1 + np.abs(x)), lambda x: 1 / (1 + np.abs(x)) ** 2)
elementwise("clipped", X, lambda x: np.clip(x, -0.8, 1.1), lambda x: 1.0 * ((x > -0.8) & (x < 1.1)))
elementwise("tanh shrink", X, lambda x: x - np.tanh(x), lambda x: np.tanh(x) ** 2)
elementwise(
    "soft shrink", X, lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.4, 0), lambda x: 1.0 * (np.abs(x) > 0.4)
)
elementwise("hard shrink", X, lambda x: np.where(np.abs(x) > 0.5, x, 0), lambda x: 1.0 * (np.abs(x) > 0.5))
elementwise("squared relu", X, lambda x: np.maximum(x, 0) ** 2, lambda x: 2 * np.maximum(x, 0))
elementwise("log sigmoid", X, lambda x: -np.logaddexp(0, -x), lambda x: sigmoid(-x))
elementwise("log cosh", X, lambda x: np.log(np.cosh(x)), np.tanh)
elementwise("bump", X, lambda x: np.exp(-x * x), lambda x: -2 * x * np.exp(-x * x))
elementwise("lorentzian", X, lambda x: 1 / (1 + x * x), lambda x: -2 * x / (1 + x * x) ** 2)
elementwise("bessel of order 0", X, lambda x: _bessel(x, 0), lambda x: -_bessel(x, 1))
elementwise("bessel of order 1", X, lambda x: _bessel(x, 1), lambda x: (_bessel(x, 0) - _bessel(x, 2)) / 2)
elementwise(
    "modified bessel", X, lambda x: np.exp(x[..., None] * np.cos(_THETA)).mean(-1),
    lambda x: (np.cos(_THETA) * np.exp(x[..., None] * np.cos(_THETA))).mean(-1),
)
elementwise("smoothstep", between(0.05, 0.95, 3, 4), lambda x: x * x * (3 - 2 * x), lambda x: 6 * x * (1 - x))
elementwise("entropy", POSITIVE, lambda x: -x * np.log(x), lambda x: -np.log(x) - 1)
elementwise("logit", between(0.05, 0.95, 3, 4), lambda x: np.log(x / (1 - x)), lambda x: 1 / (x * (1 - x)))
elementwise("sawtooth", X, lambda x: x - np.floor(x), np.ones_like)
elementwise("triangle wave", X, lambda x: np.abs(x % 2 - 1), lambda x: np.sign(x % 2 - 1))
elementwise(
    "rational", X, lambda x: (x * x + 1) / (x * x + x + 2), lambda x: (x * x + 2 * x - 1) / (x * x + x + 2) ** 2
)
elementwise("lambert w", POSITIVE, _lambert, lambda x: _lambert(x) / (x * (1 + _lambert(x))))
elementwise(
    "elliptic integral", between(0.1, 0.8, 3, 4), _elliptic,
    lambda m: (_elliptic_second(m) - (1 - m) * _elliptic(m)) / (2 * m * (1 - m)),
)
elementwise("zeta sum", between(1, 3, 3, 4), lambda x: sum(k**-x for k in range(1, 30)), lambda x: sum(
    -np.log(k) * k**-x for k in range(2, 30)
))
elementwise("chirp", X, lambda x: np.sin(9 * x * x), lambda x: 18 * x * np.cos(9 * x * x))
elementwise("planck", POSITIVE, lambda x: x**3 / np.expm1(x), lambda x: (
    3 * x**2 / np.expm1(x) - x**3 * np.exp(x) / np.expm1(x) ** 2
))
elementwise("gudermannian", X, lambda x: 2 * np.arctan(np.tanh(x / 2)), lambda x: 1 / np.cosh(x))
elementwise("expanded seventh power", mildly(between(0.97, 1.03, 3, 4), between(2, 3, 3, 4)), lambda x: (
    x**7 - 7 * x**6 + 21 * x**5 - 35 * x**4 + 35 * x**3 - 21 * x**2 + 7 * x - 1
), lambda x: 7 * x**6 - 42 * x**5 + 105 * x**4 - 140 * x**3 + 105 * x**2 - 42 * x + 7)
elementwise("difference of roots", mildly(between(1e5, 1e7, 3, 4), POSITIVE),
     lambda x: np.sqrt(x + 1) - np.sqrt(x), lambda x: (
    0.5 / np.sqrt(x + 1) - 0.5 / np.sqrt(x)
))
elementwise("one less a cosine", mildly(between(1e-6, 1e-3, 3, 4), POSITIVE), lambda x: (1 - np.cos(x)) / x**2,
     lambda x: (
    np.sin(x) / x**2 - 2 * (1 - np.cos(x)) / x**3
))
# fmt: on
