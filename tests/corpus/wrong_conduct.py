"""What no formula shows: buffers, aliases, dtypes, randomness, dy of other sizes, and errors that are small or hide."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import RIGHT, misbehaved, spoilt, true, wrong

# Of dy: everything else is right where dy is near one.
# fmt: off
spoilt("softsign", "dy clipped at 10",
     lambda g, dy, x: g / np.where(dy == 0, 1, dy) * np.clip(dy, -10, 10), upstream=1e3)
spoilt("bump", "tiny dy flushed to zero", lambda g, dy, x: g * (np.abs(dy) > 1e-6), upstream=1e-8)
spoilt("log cosh", "clipped by the norm of dy", lambda g, dy, x: g * min(1.0, 50 / np.linalg.norm(dy)), upstream=1e3)
spoilt("chirp", "dy rounded to halves", lambda g, dy, x: g * np.where(np.abs(dy) > 1e4, 1.01, 1), upstream=1e6)
spoilt("sine", "dy squared", lambda g, dy, x: g * np.abs(dy))
spoilt("cosine", "dy's mean taken off", lambda g, dy, x: g - np.sin(x) * -dy.mean())
spoilt("tangent", "a constant beside dy", lambda g, dy, x: g + 1e-3)
spoilt("cube", "a decay of the weights beside the gradient", lambda g, dy, x: g + 1e-4 * x)
spoilt("rational", "dy's sign", lambda g, dy, x: np.abs(g))
spoilt("entropy", "dy normalised", lambda g, dy, x: g / np.linalg.norm(dy))
spoilt("logit", "dy of the first row for all", lambda g, dy, x: g / dy * dy[:1])
spoilt("sawtooth", "dy transposed in its corner", lambda g, dy, x: np.where(np.eye(3, 4) > 0, g, g[::-1]))
spoilt("planck", "negative dy halved", lambda g, dy, x: np.where(dy < 0, 0.5 * g, g))

# In one place.
spoilt("hyperbolic tangent", "one element by a ten thousandth", lambda g, dy, x: g * (1 + 1e-4 * _one(x, 5)))
spoilt("arctangent", "one element by 3e-6 of the largest", lambda g, dy, x: g + 3e-6 * np.abs(g).max() * _one(x, 7))
spoilt("exponential", "the last element not written", lambda g, dy, x: g * (1 - _one(x, 11)))
spoilt("square", "two elements swapped", lambda g, dy, x: g.ravel()[[0, 2, 1, *range(3, 12)]].reshape(x.shape))
spoilt("elu", "zero at the smallest element", lambda g, dy, x: g * (x > x.min()))
spoilt("gelu", "off where |x| > 1.2", lambda g, dy, x: np.where(np.abs(x) > 1.2, 1.001 * g, g))
spoilt("signed square", "wrong in the last row", lambda g, dy, x: g * np.array([[1], [1], [1.01]]))
spoilt("zeta sum", "wrong in the diagonal", lambda g, dy, x: g * (1 + 1e-3 * np.eye(3, 4)))
spoilt("bessel of order 0", "columns rolled", lambda g, dy, x: np.roll(g, 1, 1))
spoilt("gudermannian", "rows reversed", lambda g, dy, x: g[::-1])
wrong("dual_product", "only where both are positive", lambda dv, de, x, z: (
    (2 * x * dv + 2 * z * de) * np.where((x > 0) & (z > 0), 1.002, 1), 2 * x * de))
wrong("half of a fourier transform", "the imaginary output's zero frequency", lambda dr, di, x: (
    true("half of a fourier transform", (dr, di), x) + 1e-3 * di[0]))
wrong("qr_factors", "R's last element", lambda dQ, dR, A: true(
    "qr_factors", (dQ, dR * (1 - 0.01 * (np.arange(9) == 8).reshape(3, 3))), A))

# Small, and spread.
spoilt("lorentzian", "a thirty-thousandth", lambda g, dy, x: g * (1 + 3e-5))
spoilt("sigmoid", "a slope by differences over a hundredth", lambda g, dy, x: _differences("sigmoid", dy, x, 1e-2))
spoilt("silu", "a slope by one-sided differences", lambda g, dy, x: _one_sided("silu", dy, x, 1e-5))
spoilt("mish", "a noise of 1e-5", lambda g, dy, x: g * (1 + 1e-5 * np.sin(1e3 * x)))
spoilt("log gamma", "stored as sixteen bits", lambda g, dy, x: g.astype(np.float16).astype(g.dtype))
spoilt("self power", "rounded to four digits", lambda g, dy, x: np.round(g, 4))
spoilt("standard deviation", "an eps of 1e-4 beside the deviation", lambda g, dy, x: g * (
    x.std(-1, ddof=1) / (x.std(-1, ddof=1) + 1e-4))[:, None])
spoilt("euclidean norm", "a faint term forgotten", lambda g, dy, x: g - 2e-5 * dy[:, None] * x)
spoilt("log sum exp", "the temperature 1.00001", lambda g, dy, x: true("log sum exp", dy, 1.00001 * x))
spoilt("variance", "a mean in float16", lambda g, dy, x: g + dy[:, None] * 2 / 5 * (
    x.mean(-1, keepdims=True) - x.mean(-1, keepdims=True).astype(np.float16)))
spoilt("arcsine", "π of 3.1416", lambda g, dy, x: g * 3.1416 / np.pi)
spoilt("cardinal sine", "a quadratic near zero", lambda g, dy, x: np.where(np.abs(x) < 0.3, -dy * x * np.pi**2 / 3, g))
spoilt("modified bessel", "a mean over four angles", lambda g, dy, x: dy * _bessel(x, 4))
spoilt("reciprocal", "a float16 one squared", lambda g, dy, x: -dy * (1 / x).astype(np.float16).astype(float) ** 2)
spoilt("square root", "a float32 constant of a third",
     lambda g, dy, x: g * (1 + (float(np.float32(1 / 3)) - 1 / 3) * 300))
spoilt("area tangent", "off by the hundred-thousandth of itself squared", lambda g, dy, x: g + 1e-5 * g * np.abs(g))
# fmt: on


def _one(x, place):
    return (np.arange(x.size) == place).reshape(x.shape)


def _value(name, x):
    return RIGHT[name].function(x)[0]


def _differences(name, dy, x, h):
    return dy * (_value(name, x + h) - _value(name, x - h)) / (2 * h)


def _one_sided(name, dy, x, h):
    return dy * (_value(name, x + h) - _value(name, x)) / h


def _bessel(x, count):
    angles = (np.arange(count) + 0.5) * np.pi / count
    return (np.cos(angles) * np.exp(x[..., None] * np.cos(angles))).mean(-1)


_HELD: dict[str, object] = {}


@misbehaved("square", "what it keeps lies in one place for all calls", error=1.0)
def stale(x):
    _HELD["x"] = x
    return x * x, lambda dy: 2 * _HELD["x"] * dy


@misbehaved("cube", "a buffer of the module that the next forward fills", error=1.0)
def buffered(x):
    buffer = _HELD.setdefault(f"buffer {x.shape} {x.dtype}", np.empty_like(x))
    np.copyto(buffer, x)
    return x**3, lambda dy: 3 * buffer**2 * dy


@misbehaved("exponential", "y changed in place by the pullback", error=1.0)
def consumes_its_output(x):
    y = np.exp(x)

    def backward(dy):
        np.multiply(y, dy, out=y)
        return y

    return y, backward


@misbehaved("hyperbolic tangent", "what it kept changed in place", error=1.0)
def consumes_what_it_kept(x):
    y = np.tanh(x)
    slope = 1 - y * y

    def backward(dy):
        nonlocal slope
        slope = slope * dy
        return slope

    return y, backward


@misbehaved("reciprocal", "writes to dy", error=1.0)
def writes_to_dy(x):
    def backward(dy):
        dy *= -1
        return dy / (x * x)

    return 1 / x, backward


@misbehaved("softplus", "adds noise that was not passed in", error=1.0)
def noisy(x):
    return np.log1p(np.exp(x)), lambda dy: dy / (1 + np.exp(-x)) * (1 + 1e-5 * np.random.default_rng().random())


@misbehaved("sine", "a mask drawn anew in the pullback", error=1.0)
def masks_anew(x):
    return np.sin(x), lambda dy: np.cos(x) * dy * (np.random.default_rng().random(x.shape) > 0.2)


@misbehaved("cosine", "every second call scaled", error=1.0)
def counts(x):
    calls = [0]

    def backward(dy):
        calls[0] += 1
        return -np.sin(x) * dy * (1 if calls[0] % 2 else 2)

    return np.cos(x), backward


@misbehaved("logarithm", "adds to what it gave before", error=1.0)
def accumulates(x):
    total = np.zeros_like(x)

    def backward(dy):
        nonlocal total
        total = total + dy / x
        return total

    return np.log(x), backward


@misbehaved("square root", "float32 in the pullback", error=1e-7)
def single(x):
    return np.sqrt(x), lambda dy: (0.5 / np.sqrt(x)).astype(np.float32) * dy.astype(np.float32)


@misbehaved("matrix product", "the gradients in the other order", error=1.0, refused=True)
def returned_in_the_other_order(a, b):
    return a @ b, lambda dy: (a.T @ dy, dy @ b.T)


@misbehaved("inner product", "one gradient of two", error=1.0, refused=True)
def one_of_two(x, z):
    return x @ z, lambda dy: dy * z


@misbehaved("outer product", "a gradient transposed", error=1.0, refused=True)
def of_another_shape(x, z):
    return np.outer(x, z), lambda dy: ((dy @ z)[None], x @ dy)


@misbehaved("sum and difference", "the second output detached", error=1.0)
def detached(x, z):
    return (x + z, x - z), lambda ds, dd: (ds, ds)


@misbehaved("centred", "a forward that rounds what it keeps", error=1e-3)
def rounds_what_it_keeps(x):
    return x - x.mean(0), lambda dy: dy - np.round(dy.mean(0), 3)
