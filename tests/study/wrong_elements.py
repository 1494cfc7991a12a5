"""Of each element on its own, and of layers."""

from __future__ import annotations

import numpy as np

from npora.nn.functional import erf
from tests.study.answers import sigma, wrong

AGAIN = np.random.default_rng(0)

# fmt: off
wrong("relu", "where dy is above 0, and not x", lambda dy, x: np.where(dy > 0, dy, 0), "dy in the place of x")
wrong("relu", "dy passed on", lambda dy, x: dy, "dy itself", "should be zero")
wrong("relu", "the function once more", lambda dy, x: np.maximum(x, 0), "not linear in dy", "lacks dy")
wrong("relu", "times x", lambda dy, x: dy * np.maximum(x, 0), "a factor x too many", "a factor output too many")
wrong("relu", "below 0 instead", lambda dy, x: np.where(x < 0, dy, 0), "the cases of `x > 0`")

wrong("tanh", "1 + y²", lambda dy, x: dy * (1 + np.tanh(x) ** 2), "y²", "the share")
wrong("tanh", "y not squared", lambda dy, x: dy * (1 - np.tanh(x)), "not squared")
wrong("tanh", "x squared, not tanh x", lambda dy, x: dy * (1 - x**2), "x²")
wrong("tanh", "dy forgotten", lambda dy, x: 1 - np.tanh(x) ** 2, "lacks dy", "not linear in dy")
wrong("tanh", "the sign", lambda dy, x: dy * (np.tanh(x) ** 2 - 1), "the sign")

wrong("silu", "the factor x's share alone", lambda dy, x: dy * sigma(x), "the share through σ")
wrong("silu", "σ's share alone", lambda dy, x: dy * x * sigma(x) * (1 - sigma(x)), "the share of the factor x")
wrong("silu", "σ′ = σ", lambda dy, x: dy * (sigma(x) + x * sigma(x)), "σ")
wrong("silu", "x not multiplied in", lambda dy, x: dy * (sigma(x) + sigma(x) * (1 - sigma(x))), "factor x")
wrong("silu", "1 + σ", lambda dy, x: dy * (sigma(x) + x * sigma(x) * (1 + sigma(x))), "1 − σ", "σ")


def _u(x):
    return np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)


def _gelu(x, du):
    t = np.tanh(_u(x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * du


wrong("gelu_tanh", "no share of tanh", lambda dy, x: dy * 0.5 * (1 + np.tanh(_u(x))), "the share of tanh u")
wrong("gelu_tanh", "u's slope forgotten", lambda dy, x: dy * _gelu(x, 1.0), "u's own slope", "u's slope")
wrong("gelu_tanh", "the 3 of x³ forgotten", lambda dy, x: dy * _gelu(x, np.sqrt(2 / np.pi) * (1 + 0.044715 * x**2)),
      "x³")
wrong("gelu_tanh", "√(2/π) forgotten", lambda dy, x: dy * _gelu(x, 1 + 3 * 0.044715 * x**2), "√(2/π)",
      "the share of tanh u")
wrong("gelu_tanh", "a constant with too few digits", lambda dy, x: dy * _gelu(x, 0.798 * (1 + 3 * 0.044715 * x**2)),
      "the share of tanh u")

wrong("gelu", "no share of Φ", lambda dy, x: dy * 0.5 * (1 + erf(x / np.sqrt(2))), "the share of Φ")
wrong("gelu", "φ without 1/√(2π)", lambda dy, x: dy * (
    0.5 * (1 + erf(x / np.sqrt(2))) + x * np.exp(-(x**2) / 2)), "the share of Φ")
wrong("gelu", "φ not times x", lambda dy, x: dy * (
    0.5 * (1 + erf(x / np.sqrt(2))) + np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)), "factor x")
wrong("gelu", "erf's slope, 2/√π e^(−z²), without z's 1/√2", lambda dy, x: dy * (
    0.5 * (1 + erf(x / np.sqrt(2))) + 0.5 * x * 2 / np.sqrt(np.pi) * np.exp(-(x**2) / 2)), "the share of Φ")
wrong("gelu", "no share of the factor x", lambda dy, x: dy * x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
      "the share of the factor x")


def _slope(g):
    return sigma(g) + g * sigma(g) * (1 - sigma(g))


wrong("swiglu", "the two swapped", lambda dy, gate, up: (dy * gate * sigma(gate), dy * up * _slope(gate)),
      "swapped", "the gradient of up")
wrong("swiglu", "up forgotten in dgate", lambda dy, gate, up: (dy * _slope(gate), dy * gate * sigma(gate)),
      "a factor up is missing")
wrong("swiglu", "silu's slope forgotten", lambda dy, gate, up: (dy * up, dy * gate * sigma(gate)), "silu's slope")
wrong("swiglu", "σ for silu in dup", lambda dy, gate, up: (dy * up * _slope(gate), dy * sigma(gate)),
      "a factor gate is missing")
wrong("swiglu", "σ's share forgotten", lambda dy, gate, up: (dy * up * sigma(gate), dy * gate * sigma(gate)),
      "the share through σ")

wrong("dropout", "no 1/(1 − p)", lambda dy, x, *, keep, p: dy * keep, "1 − p")
wrong("dropout", "1/p", lambda dy, x, *, keep, p: dy * keep / p, "p")
wrong("dropout", "the mask forgotten", lambda dy, x, *, keep, p: dy / (1 - p), "dropped elements", "should be zero")
wrong("dropout", "drawn again", lambda dy, x, *, keep, p: dy * (AGAIN.random(x.shape) > p) / (1 - p), "randomness",
      "differs")
wrong("dropout", "the dropped kept", lambda dy, x, *, keep, p: dy * ~keep / (1 - p), "unlike", "dropped", "wrong at")

wrong("linear", "W transposed back", lambda dy, x, W, b: (dy @ W, np.einsum("bto,bti->io", dy, x), dy.sum((0, 1))),
      "transpose")
wrong("linear", "db not summed over b", lambda dy, x, W, b: (dy @ W, np.einsum("bto,bti->oi", dy, x), dy.sum(1)),
      "not summed")
wrong("linear", "db a mean", lambda dy, x, W, b: (dy @ W, np.einsum("bto,bti->oi", dy, x), dy.mean((0, 1))),
      "number of rows", "b·t")
wrong("linear", "dW a mean over b", lambda dy, x, W, b: (
    dy @ W, np.einsum("bto,bti->boi", dy, x).mean(0), dy.sum((0, 1))), "1/2", "mean")
wrong("linear", "x's own gradient forgotten", lambda dy, x, W, b: (
    np.zeros_like(x), np.einsum("bto,bti->oi", dy, x), dy.sum((0, 1))), "all zero")

wrong("positions", "not summed", lambda dy, x, P: (dy, dy), "not summed")
wrong("positions", "a mean", lambda dy, x, P: (dy, dy.mean(0)), "1/2", "mean", "(b)")
wrong("positions", "the first sequence alone", lambda dy, x, P: (dy, dy[0]), "the first sequence alone")
wrong("positions", "summed over t", lambda dy, x, P: (dy, dy.sum(1)), "shape")
wrong("positions", "the same for all positions", lambda dy, x, P: (dy, np.broadcast_to(dy.sum((0, 1)), P.shape)),
      "the sum over axis 0", "the same all along axis 0")


def _table(E, ids, dy):
    dE = np.zeros_like(E)
    dE[ids] += dy
    return dE


def _added(E, ids, dy):
    dE = np.zeros_like(E)
    np.add.at(dE, ids, dy)
    return dE


wrong("embedding", "dE[ids] += dy", lambda dy, E, *, ids: _table(E, ids, dy), "occurrences of a token, but the last")
wrong("embedding", "dy's rows", lambda dy, E, *, ids: dy, "shape")
wrong("embedding", "looked up again", lambda dy, E, *, ids: dy[ids], "IndexError", "shape")
wrong("embedding", "a mean over occurrences", lambda dy, E, *, ids: _added(E, ids, dy) / np.maximum(
    np.bincount(ids, minlength=len(E)), 1)[:, None], "the mean over the occurrences")
wrong("embedding", "times E", lambda dy, E, *, ids: _added(E, ids, dy) * E, "a factor E too many")


def _tied(E, ids, dz, slope=True, add=_added):
    h = np.tanh(E[ids])
    return dz.T @ h, add(E, ids, (dz @ E) * ((1 - h**2) if slope else 1))


wrong("tied_weights", "the output's share alone", lambda dz, E, *, ids: _tied(E, ids, dz)[0], "the share of the input")
wrong("tied_weights", "the input's share alone", lambda dz, E, *, ids: _tied(E, ids, dz)[1], "the share of the output")
wrong("tied_weights", "tanh's slope forgotten", lambda dz, E, *, ids: sum(_tied(E, ids, dz, slope=False)),
      "tanh's slope")
wrong("tied_weights", "dE[ids] += dh", lambda dz, E, *, ids: sum(_tied(E, ids, dz, add=_table)),
      "occurrences")
wrong("tied_weights", "the mean of both", lambda dz, E, *, ids: sum(_tied(E, ids, dz)) / 2, "1/2")


def _spread(dy, x):
    return np.broadcast_to(dy[:, None], x.shape)


wrong("mean_pooling", "not divided", lambda dy, x, *, mask: _spread(dy, x) * mask[..., None], "how many")
wrong("mean_pooling", "divided by t", lambda dy, x, *, mask: _spread(dy, x) * mask[..., None] / x.shape[1], "how many")
wrong("mean_pooling", "the mask forgotten", lambda dy, x, *, mask: _spread(dy, x) / mask.sum(1)[:, None, None],
      "masked positions", "hides a position", "should be zero")
wrong("mean_pooling", "dy itself", lambda dy, x, *, mask: dy, "shape")
wrong("mean_pooling", "divided by the batch", lambda dy, x, *, mask: (
    _spread(dy, x) * mask[..., None] / mask.sum(1)[:, None, None] / len(x)), "1/2")
# fmt: on
