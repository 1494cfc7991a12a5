"""Slopes of functions of one number, each wrong in its own way."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import spoilt, wrong

SQRT2 = 2**0.5


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


# fmt: off
wrong("sine", "the sine itself", lambda dy, x: np.sin(x) * dy)
wrong("sine", "a slope of the first two terms of its series", lambda dy, x: (1 - x * x / 2) * dy)
wrong("cosine", "the minus forgotten", lambda dy, x: np.sin(x) * dy)
wrong("tangent", "the secant not squared", lambda dy, x: dy / np.cos(x))
wrong("arcsine", "the root forgotten", lambda dy, x: dy / (1 - x * x))
wrong("arccosine", "the slope of its other branch", lambda dy, x: dy / np.sqrt(1 - x * x))
wrong("arctangent", "x not squared", lambda dy, x: dy / (1 + np.abs(x)))
wrong("hyperbolic sine", "the slope of the round sine", lambda dy, x: np.cos(x) * dy)
wrong("hyperbolic cosine", "only its growing half", lambda dy, x: np.exp(x) / 2 * dy)
wrong("hyperbolic tangent", "1 − y in place of 1 − y²", lambda dy, x: (1 - np.tanh(x)) * dy)
wrong("hyperbolic tangent", "the slope asked of y instead of x", lambda dy, x: (1 - np.tanh(np.tanh(x)) ** 2) * dy)
wrong("area sine", "the minus under the root", lambda dy, x: dy / np.sqrt(np.abs(1 - x * x) + 1e-3))
wrong("area cosine", "an eps under the root", lambda dy, x: dy / np.sqrt(x * x - 1 + 1e-4))
wrong("area tangent", "an eps in the denominator", lambda dy, x: dy / (1 - x * x + 1e-5))
wrong("exponential", "the slope at a clipped x", lambda dy, x: np.exp(np.minimum(x, 0.5)) * dy)
wrong("power of two", "log 2 rounded to four digits", lambda dy, x: 0.6931 * np.exp2(x) * dy)
wrong("exponential less one", "y as its own slope", lambda dy, x: np.expm1(x) * dy)
wrong("logarithm", "an eps beside x", lambda dy, x: dy / (x + 1e-4))
wrong("logarithm to 2", "multiplied by log 2", lambda dy, x: dy / x * np.log(2))
wrong("logarithm to 10", "as the natural one", lambda dy, x: dy / x)
wrong("logarithm of one more", "the one forgotten", lambda dy, x: dy / (x + (x == 0)))
wrong("square root", "half forgotten", lambda dy, x: dy / np.sqrt(x))
wrong("square root", "of half of x", lambda dy, x: dy / np.sqrt(2 * x) / SQRT2 * (1 + 3e-6))
wrong("cube root", "the square of x and not of the root", lambda dy, x: dy / (3 * np.cbrt(x) * np.cbrt(x * x * x)))
wrong("reciprocal", "x not squared", lambda dy, x: -dy / x)
wrong("square", "the two forgotten where x is negative", lambda dy, x: np.where(x > 0, 2 * x, x) * dy)
wrong("cube", "the square's slope", lambda dy, x: 2 * x * dy)
wrong("self power", "only the exponent's part", lambda dy, x: x**x * np.log(x) * dy)
wrong("absolute", "straight through", lambda dy, x: dy)
wrong("signed root", "nothing near zero, for safety", lambda dy, x: dy * 0.5 / np.sqrt(np.maximum(np.abs(x), 0.3)))
wrong("signed square", "the sign once more", lambda dy, x: 2 * x * dy)
wrong("cardinal sine", "x taken for πx", lambda dy, x: (np.cos(x) / x - np.sin(x) / (x * x)) * dy)
wrong("sigmoid", "σ(1 − σ) of σ", lambda dy, x: _sigmoid(_sigmoid(x)) * (1 - _sigmoid(_sigmoid(x))) * dy)
wrong("softplus", "a hard step", lambda dy, x: (x > 0) * dy)
wrong("silu", "the gate held constant", lambda dy, x: _sigmoid(x) * dy)
wrong("silu", "the inner slope not weighted by x", lambda dy, x: _sigmoid(x) * (1 + _sigmoid(-x)) * dy)
wrong("gelu by tanh", "the slope of the exact one", lambda dy, x: _exact(x) * dy)
wrong("gelu by tanh", "the cubic's factor 2 for 3", lambda dy, x: _tanh_form(x, 2 * 0.044715, 0.7978845608) * dy)
wrong("gelu by tanh", "0.7979 for √(2/π)", lambda dy, x: _tanh_form(x, 3 * 0.044715, 0.7979) * dy)
wrong("gelu", "the sigmoid's likeness", lambda dy, x: (
    _sigmoid(1.702 * x) * (1 + 1.702 * x * _sigmoid(-1.702 * x)) * dy))
wrong("error function", "x² not halved as a density's", lambda dy, x: 2 / np.pi**0.5 * np.exp(-x * x / 2) * dy)
wrong("gamma function", "the digamma alone", lambda dy, x: np.vectorize(lambda t: np.log(t) - 0.5 / t)(x) * dy)
wrong("log gamma", "Stirling's first terms", lambda dy, x: (np.log(x) - 1 / (2 * x)) * dy)
wrong("digamma", "five terms of the trigamma", lambda dy, x: sum(1 / (x + k) ** 2 for k in range(5)) * dy)
wrong("relu", "everything above −½ passes", lambda dy, x: (x > -0.5) * dy)
wrong("relu", "judged by dy's sign too", lambda dy, x: (x > 0) * np.maximum(dy, 0))
wrong("leaky relu", "the leak forgotten", lambda dy, x: (x > 0) * dy)
wrong("leaky relu", "the leak of another layer", lambda dy, x: np.where(x > 0, 1, 0.11) * dy)
wrong("elu", "y in place of y + 1 below zero", lambda dy, x: np.where(x > 0, 1, np.expm1(x)) * dy)
wrong("mish", "the sigmoid's factor forgotten", lambda dy, x: (
    np.tanh(np.log1p(np.exp(x))) + x * (1 - np.tanh(np.log1p(np.exp(x))) ** 2)) * dy)
wrong("hard swish", "a slope of x + 3 and not of 2x + 3",
     lambda dy, x: np.where(np.abs(x) < 3, (x + 3) / 6, x > 3) * dy)
wrong("softsign", "not squared", lambda dy, x: dy / (1 + np.abs(x)))
wrong("clipped", "straight through the clip", lambda dy, x: dy)
wrong("clipped", "the lower bound lets through", lambda dy, x: (x < 1.1) * dy)
wrong("tanh shrink", "one less the wrong sign", lambda dy, x: (2 - np.tanh(x) ** 2) * dy)
wrong("soft shrink", "shrinks the slope as well", lambda dy, x: np.maximum(np.abs(x) - 0.4, 0) * dy)
wrong("hard shrink", "the threshold of the soft one",
     lambda dy, x: (np.abs(x) > 0.4) * dy + 0.01 * dy * (np.abs(x) < 0.4))
wrong("squared relu", "both signs", lambda dy, x: 2 * x * dy)
wrong("log sigmoid", "σ(x) for σ(−x)", lambda dy, x: _sigmoid(x) * dy)
wrong("log cosh", "a clipped line for the tanh", lambda dy, x: np.clip(x, -1, 1) * dy)
wrong("bump", "the two forgotten", lambda dy, x: -x * np.exp(-x * x) * dy)
wrong("lorentzian", "the denominator of the value", lambda dy, x: -2 * x / (1 + x * x) * dy)
wrong("bessel of order 0", "a mean over eight angles", lambda dy, x: -np.cos(
    (np.arange(4) + 0.5) * np.pi / 4 - x[..., None] * np.sin((np.arange(4) + 0.5) * np.pi / 4)).mean(-1) * dy)
wrong("bessel of order 1", "the recurrence's half forgotten",
     lambda dy, x: 2 * _true_slope("bessel of order 1", x) * dy)
wrong("modified bessel", "even where it is odd", lambda dy, x: np.abs(_true_slope("modified bessel", x)) * dy)
wrong("smoothstep", "clamped at its steepest", lambda dy, x: np.minimum(6 * x * (1 - x), 1.2) * dy)
wrong("entropy", "the −1 forgotten", lambda dy, x: -np.log(x) * dy)
wrong("logit", "1/x alone", lambda dy, x: dy / x)
wrong("sawtooth", "the fraction as its slope", lambda dy, x: (x - np.floor(x)) * dy)
wrong("triangle wave", "a period of one", lambda dy, x: np.sign(x % 1 - 0.5) * dy)
wrong("rational", "the numerator's part alone", lambda dy, x: 2 * x / (x * x + x + 2) * dy)
wrong("lambert w", "one step of Newton from the logarithm", lambda dy, x: _lambert_once(x) * dy)
wrong("elliptic integral", "m for k", lambda dy, m: 2 * np.sqrt(m) * _true_slope("elliptic integral", m) * dy)
wrong("zeta sum", "the last term left out", lambda dy, x: sum(-np.log(k) * k**-x for k in range(2, 29)) * dy)
wrong("chirp", "the frequency without its two", lambda dy, x: 9 * x * np.cos(9 * x * x) * dy)
wrong("planck", "the quotient rule's square forgotten", lambda dy, x: (
    3 * x**2 / np.expm1(x) - x**3 * np.exp(x) / np.expm1(x)) * dy)
wrong("gudermannian", "twice", lambda dy, x: 2 / np.cosh(x) * dy)
wrong("expanded seventh power", "one coefficient of six wrong by a thousandth", lambda dy, x: (
    _true_slope("expanded seventh power", x) + 0.042 * x**5) * dy)
wrong("difference of roots", "the second root forgotten", lambda dy, x: 0.5 / np.sqrt(x + 1) * dy)
wrong("one less a cosine", "its limit at zero", lambda dy, x: -x / 12 * dy * 1.3)
spoilt("sigmoid", "zero where it is saturated", lambda g, dy, x: g * (np.abs(x) < 1.5))
spoilt("softplus", "one element forgotten", lambda g, dy, x: g * (np.arange(12).reshape(3, 4) != 7))
# fmt: on


def _exact(x):
    from math import erf

    return (1 + np.vectorize(erf)(x / SQRT2)) / 2 + x * np.exp(-x * x / 2) / (2 * np.pi) ** 0.5


def _tanh_form(x, cubic, factor):
    t = np.tanh(factor * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * factor * (1 + cubic * x * x)


def _lambert_once(x):
    w = np.log1p(x)
    w = w - (w * np.exp(w) - x) / (np.exp(w) * (1 + w))
    return w / (x * (1 + w))


def _true_slope(name, x):
    from tests.corpus.case import true

    return true(name, np.ones_like(x), x)
