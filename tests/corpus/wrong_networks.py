"""Of recurrences, losses, layers and physics: what a term forgets, and which one of several is wrong."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import fixed, only_first, only_last, spoilt, true, wrong
from tests.corpus.right_networks import softmax_back, softmax_of


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _at(place, name, change):
    """Only the gradient at a place is wrong."""

    def vjp(dy, *inputs):
        found = list(true(name, dy, *inputs))
        found[place] = change(found[place], dy, *inputs)
        return tuple(found)

    return vjp


# fmt: off
wrong("recurrent_network", "through time cut off in W", _at(3, "recurrent_network", lambda g, dy, x, h, U, W: np.outer(
    dy[-1] * (1 - np.tanh(dy[-1]) ** 2), np.ones(4))))
wrong("recurrent_network", "the start's gradient averaged", _at(1, "recurrent_network", lambda g, dy, *_: g / 3))
wrong("lstm", "input and forget gate swapped", _at(1, "lstm", lambda g, dy, *_: g[[2, 3, 0, 1, 4, 5, 6, 7]]))
wrong("lstm", "the first step left out", _at(0, "lstm", lambda g, dy, *_: g * (np.arange(4) > 0)[:, None]))
wrong("gated_recurrent_unit", "the reset gate held in W", _at(2, "gated_recurrent_unit", lambda g, dy, *_: (
    g * (np.arange(6) > 1)[:, None])))
wrong("leapfrog", "h for h/2 at the last kick", lambda dq, dp, q, p: true("leapfrog", (dq - 0.15 * dp, dp), q, p))
wrong("leapfrog", "time not reversed", lambda dq, dp, q, p: true("leapfrog", (dq, -dp), q, p))
only_last("runge_kutta", "the stages weighted alike", lambda g, dy, y, a: g * 0.97)
wrong("newton_square_root", "its limit's slope at a tenth more", lambda dx, a: dx / (2 * np.sqrt(1.001 * a)))
wrong("implicit_fixed_point", "two terms of the geometric series", lambda dy, x: dy * (
    1 - np.sin(_fixed(x)) / 2 + np.sin(_fixed(x)) ** 2 / 4))
only_first("horner", "powers in rising order", lambda g, dy, c, x: g[::-1])
only_last("horner", "the leading coefficient's power one less", lambda g, dy, c, x: g - dy * c[0] * x**4)
wrong("continued_fraction", "all signs positive", lambda dy, a: np.abs(true("continued_fraction", dy, a)) * np.sign(dy))
only_last("exponential_smoothing", "g for g(1 − g)", lambda g, dy, x, a: g / (1 - _sigmoid(a)))
only_first("exponential_smoothing", "the memory once", lambda g, dy, x, a: _sigmoid(a) * dy)
wrong("logistic_map", "at the mean of the two ends", lambda dy, x: true("logistic_map", dy, (x + 0.5) / 2))
only_last("hidden_markov_forward", "moves transposed", lambda g, dy, *_: g.T)
only_first("hidden_markov_forward", "the posterior by emissions alone", lambda g, dy, e, m: dy * softmax_of(e))
only_first("viterbi_score", "greedy, without the moves", lambda g, dy, e, m: dy * (e == e.max(1, keepdims=True)))
wrong("edit_alignment", "the diagonal moves alone", lambda dy, cost: dy * np.eye(4, 5))
wrong("ctc_like", "repeated labels set and not added", lambda dy, x: (
    true("ctc_like", dy, x) * np.array([0.5, 1, 1])))
only_last("selective_scan", "the state after the step",
     lambda g, dy, x, a: true("selective_scan", dy, x, a)[0] * _scan(x, a))
wrong("fibonacci_like", "one of the two ancestors", lambda dy, x: np.cumsum(dy[::-1])[::-1])
only_last("neural_memory", "what later keys erase", lambda g, dw, k, v: k @ dw / 2)
only_last("unrolled_descent", "the momentum not unrolled", lambda g, dw, x, t: np.cos(t) * (x @ dw) * 0.3)

wrong("mean squared error", "the target's sign", lambda dy, x, t: (dy * (x - t) / 6, dy * (x - t) / 6))
wrong("mean absolute error", "divided by the rows", lambda dy, x, t: (
    dy * np.sign(x - t) / 4, dy * np.sign(t - x) / 4))
wrong("huber", "the square's slope all along", lambda dy, x: dy * x)
only_first("pseudo huber", "without its root", lambda g, dy, x, t: dy[:, None] * (x - t) / (1 + (x - t) ** 2))
wrong("pinball", "the quantile's complement", lambda dy, x, t: (
    dy * np.where(t > x, -0.7, 0.3), dy * np.where(t > x, 0.7, -0.3)))
wrong("cross entropy", "a sum for the mean", lambda dy, x, t: (dy * (softmax_of(x) - np.eye(3)[t]), None))
wrong("cross entropy", "the target's one forgotten", lambda dy, x, t: (dy * softmax_of(x) / 4, None))
wrong("weighted cross entropy", "divided by the rows and not the weights", lambda dy, x, t, w: (
    dy * w[t][:, None] * (softmax_of(x) - np.eye(3)[t]) / 4, None, true("weighted cross entropy", dy, x, t, w)[2]))
wrong("smoothed cross entropy", "smoothed over the other classes", lambda dy, x, t: (
    dy[:, None] * (softmax_of(x) - 0.9 * np.eye(3)[t] - 0.05 * (1 - np.eye(3)[t])), None))
wrong("binary cross entropy", "σ′ multiplied in", lambda dy, x, t: (
    dy * (_sigmoid(x) - t) * _sigmoid(x) * _sigmoid(-x), None))
wrong("focal loss", "the focus held", lambda dy, x: -dy * (1 - _sigmoid(x)) ** 3)
wrong("hinge", "the margin at zero", lambda dy, x, t: (
    -dy * (2 * np.eye(3)[t] - 1) * (x * (2 * np.eye(3)[t] - 1) < 0), None))
wrong("multiclass margin", "the target's column once", lambda dy, x, t: (
    np.maximum(true("multiclass margin", dy, x, t)[0], -np.abs(dy)), None))
only_first("triplet margin", "the anchor as a mean of both", lambda g, dy, a, p, q: g / 2 + (p - a) * 0.1)
only_last("contrastive by a temperature", "divided once", lambda g, dy, a, b, t: g * t)
only_last("preference", "not negated", lambda g, dy, c, r: -g)
only_first("clipped surrogate", "the clip ignored", lambda g, dy, d, a: dy * a * np.exp(d))
wrong("dice", "the denominator held", lambda dy, p, t: (-2 * dy * t / (p.sum() + t.sum()), None))
only_first("relative entropy of logits", "the second's form for the first", lambda g, dy, x, z: (
    dy[:, None] * (softmax_of(x) - softmax_of(z))))
only_first("poisson deviance", "the rate for its logarithm", lambda g, dy, x, t: dy * (1 - t * np.exp(-x)) / 12)
wrong("gaussian log density", "the normaliser forgotten", _at(2, "gaussian log density",
     lambda g, dy, *_: g + dy.sum()))
only_last("relative entropy of gaussians", "the variance not squared", lambda g, dy, m, s: dy * (np.exp(s) - 1))
only_last("laplace log density", "one row's", lambda g, dy, x, b: dy[0] * (np.abs(x[0]) / b**2 - 1 / b))
only_last("student log density", "the logarithm's part alone", lambda g, dy, x, v: np.asarray(
    -dy * np.log1p(x * x / v).sum() / 2))
only_first("wasserstein by sorting", "paired as they come", lambda g, dy, x, z: dy * (x - z) / 3)
only_first("energy distance", "its own spread forgotten", lambda g, dy, x, z: dy * np.sign(x[:, None] - z).sum(1) / 6)
only_first("kernel mean discrepancy", "the kernel's pairs once", lambda g, dy, x, z: (
    g + 2 * dy * (np.exp(-((x[:, None] - x) ** 2).sum(-1))[..., None] * (x[:, None] - x)).sum(1) / 16))
only_first("correlation coefficient", "its own part not taken off", lambda g, dy, x, z: (
    dy * (z - z.mean()) / np.sqrt(((x - x.mean()) ** 2).sum() * ((z - z.mean()) ** 2).sum())))
wrong("covariance matrix", "divided by the rows", lambda dy, x: (x - x.mean(0)) @ (dy + dy.T) / 5)
only_first("proportional hazards", "risk sets reversed", lambda g, dy, x, t: g[::-1])
wrong("soft ranks", "the others' dy forgotten", lambda dy, x: dy * (
    _sigmoid(x[:, None] - x) * _sigmoid(x - x[:, None])).sum(1))
wrong("sparsemax", "a softmax's pullback", lambda dy, x: softmax_back(softmax_of(x), dy))
only_last("mahalanobis", "symmetrised in absolute value", lambda g, dy, x, m, S: -np.abs(g))
only_last("gaussian_log_likelihood", "the determinant's part lost", lambda g, dy, x, S: (
    g + dy * np.linalg.inv(S).T / 2))
only_first("sinkhorn", "the scalings held", lambda g, dy, C, z: -dy * true("sinkhorn", 1.0 * np.ones(()), C, z)[1] * z)
spoilt("listwise_ranking", "the last of the list forgotten", lambda g, dy, x: g * (np.arange(5) < 4)[:, None])

wrong("softmax", "the diagonal of its matrix alone", lambda dy, x: softmax_of(x) * (1 - softmax_of(x)) * dy)
wrong("softmax", "summed over the other axis", lambda dy, x: softmax_of(x) * (dy - (dy * softmax_of(x)).sum(0)))
wrong("log softmax", "the mean for the sum", lambda dy, x: dy - softmax_of(x) * dy.mean(-1, keepdims=True))
spoilt("softmax at any scale", "the largest's share lost", lambda g, dy, x: g * (np.abs(x) < np.abs(x).max()))
wrong("softmin over columns", "the minus lost", lambda dy, x: softmax_back(softmax_of(-x.T), dy.T).T)
only_last("gumbel softmax", "the noise not divided", lambda g, dy, x, t: g * t + 1e-3 * dy.sum())
only_first("layer norm", "the second mean dropped", lambda g, dy, x, gain, b: _norm_without(dy * gain, x))
only_first("layer norm", "the gain dropped", lambda g, dy, x, gain, b: true("layer norm", dy, x, np.ones(5), b)[0])
only_first("batch norm", "statistics held, as in evaluation",
     lambda g, dy, x, gain: dy * gain / np.sqrt(x.var(0) + 1e-3))
wrong("group norm", "over the whole row", lambda dy, x: (
    true("layer norm", np.c_[dy, dy[:, :0]][:, :5], x[:, :5], np.ones(5), np.ones(5))[0] @ np.eye(5, 6)))
only_first("root mean square norm", "an eps of 1e-5 inside the root", lambda g, dy, x, gain: g / np.sqrt(
    1 + 1e-5 / (x * x).mean(-1, keepdims=True)))
spoilt("unit rows", "divided by the square", lambda g, dy, x: g / np.linalg.norm(x, axis=-1, keepdims=True))
wrong("weight norm", "v's direction not taken off", _at(1, "weight norm", lambda h, dy, x, v, g: (
    g[:, None] / np.linalg.norm(v, axis=1, keepdims=True) * (dy.T @ x))))
wrong("linear attention", "keys' exponential forgotten", _at(1, "linear attention",
     lambda g, dy, q, k, v: g / np.exp(k)))
only_last("alibi scores", "signed distances", lambda g, dy, q, k, m: np.asarray(
    -(dy * np.subtract.outer(range(4), range(4))).sum()))
spoilt("rotary positions", "halves swapped", lambda g, dy, x: np.c_[g[:, 3:], g[:, :3]])
only_last("sinusoidal positions scaled", "cosines", lambda g, dy, x, s: np.asarray(
    (dy * np.cos(np.outer(np.arange(4), np.arange(6)))).sum()))
wrong("mixture of two experts", "the gates held", _at(1, "mixture of two experts", lambda g, *_: 0 * g))
wrong("lora", "dB guarded by a scale of one", _at(2, "lora", lambda g, *_: g / 1.5))
wrong("lora", "dA through the base and not through B", _at(1, "lora", lambda g, dy, x, A, B: (
    1.5 * (dy @ np.sign(B)).T @ x)))
wrong("vera", "the two scales swapped in value", _at(1, "vera", lambda g, dy, x, d, b: g * d))
only_first("rescaled activations", "the output's scale forgotten", lambda g, dy, x, a, b: dy @ fixed(4, 5) * a)
wrong("loha", "one product for the other", _at(0, "loha", lambda g, dy, a, b, c, d, x: (dy.T @ x * (a @ b)) @ b.T))
wrong("lokr", "blocks counted down", _at(0, "lokr", lambda g, *_: g[::-1]))
spoilt("spectral update", "the real part of one of two conjugates", lambda g, dy, c: g / 2)
only_last("hira", "W₀ forgotten", lambda g, dy, B, A: B.T @ dy)
spoilt("tied factors", "the trace's part lost", lambda g, dy, A: g + 2 * np.trace(dy) * A / 3)
wrong("scaled_attention", "the scale applied in q alone", _at(1, "scaled_attention", lambda g, *_: g * 3**0.5))
wrong("scaled_attention", "the mask forgotten in dv", _at(2, "scaled_attention", lambda g, dy, q, k, v, m: (
    softmax_of(q @ k.swapaxes(1, 2) / 3**0.5).swapaxes(1, 2) @ dy)))
wrong("grouped_query_attention", "one head's share of the keys", _at(1, "grouped_query_attention",
     lambda g, dy, q, k, v: (
    true("grouped_query_attention", dy * np.r_[1, 1, 1, 1, 0, 0, 0, 0], q, k, v)[1])))
only_last("attention_with_sink", "the sink held", lambda g, *_: np.zeros(()))
wrong("dora", "the norm held constant", _at(1, "dora", lambda g, dy, x, A, B, m: B.T @ (
    (m / np.linalg.norm(fixed(4, 5) + B @ A, axis=1))[:, None] * (dy.T @ x))))
only_first("orthogonal_by_cayley", "one of the two inverses", lambda g, dy, G, x: (
    (lambda d: (d - d.T) / 2)(-dy.T @ x - dy.T @ x)))
only_last("butterfly", "levels swapped", lambda g, dy, x, a: g[::-1])
only_last("trained_tokens", "the rows below read too", lambda g, dy, x, i, d, h: np.r_[g[:2], 1e-2 * g[:2]])
# fmt: on


def _fixed(x):
    y = x
    for _ in range(60):
        y = x + np.cos(y) / 2
    return y


def _scan(x, a):
    h = [x[0]]
    for t in range(1, 6):
        h.append(a[t] * h[-1] + x[t])
    return np.array(h)


def _norm_without(dh, x):
    r = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
    return r * (dh - dh.mean(-1, keepdims=True))
