"""Of softmax, losses and norms."""

from __future__ import annotations

import numpy as np

from tests.study.answers import mean, sigma, soft, total, wrong

# fmt: off
wrong("softmax", "as if element by element", lambda dp, x: dp * soft(x) * (1 - soft(x)), "on its own x alone")
wrong("softmax", "the sum's share forgotten", lambda dp, x: dp * soft(x), "the share of the sum")
wrong("softmax", "summed over the wrong axis", lambda dp, x: soft(x) * (dp - (dp * soft(x)).sum(0)), "axis")
wrong("softmax", "dp's sum without p", lambda dp, x: soft(x) * (dp - total(dp)), "p")
wrong("softmax", "a mean for the sum", lambda dp, x: soft(x) * (dp - mean(dp * soft(x))), "the share of the sum")

wrong("log_softmax", "the sum forgotten", lambda dl, x: dl - soft(x) * dl, "the share of", "p", "sum")
wrong("log_softmax", "dl passed on", lambda dl, x: dl, "the share of log Σ e^x", "dy itself")
wrong("log_softmax", "softmax's pullback", lambda dl, x: soft(x) * (dl - total(dl * soft(x))), "of softmax",
      "p = e^l", "softmax")
wrong("log_softmax", "a mean for the sum", lambda dl, x: dl - soft(x) * mean(dl), "the share of log Σ e^x")
wrong("log_softmax", "the sign of the second part", lambda dl, x: dl + soft(x) * total(dl), "the share of log Σ e^x")


def _p_minus_one(z, targets, at=1.0):
    dz = soft(z)
    dz[np.arange(len(z)), targets] -= at
    return dz


wrong("cross_entropy", "a sum for the mean", lambda dloss, z, *, targets: dloss * _p_minus_one(z, targets), "N")
wrong("cross_entropy", "dloss forgotten", lambda dloss, z, *, targets: _p_minus_one(z, targets) / len(z), "lacks dy",
      "not linear in dy")
wrong("cross_entropy", "the sign", lambda dloss, z, *, targets: -dloss * _p_minus_one(z, targets) / len(z), "the sign")
wrong("cross_entropy", "p alone", lambda dloss, z, *, targets: dloss * soft(z) / len(z), "the share of the target",
      "at the target", "wrong at")
wrong("cross_entropy", "divided by all", lambda dloss, z, *, targets: dloss * _p_minus_one(z, targets) / z.size,
      "axis 1", "classes", "v")


def _ignoring(z, targets, divisor=None, zeroed=True):
    counted = targets != -100
    dz = soft(z)
    dz[np.flatnonzero(counted), targets[counted]] -= 1
    if zeroed:
        dz[~counted] = 0
    return dz / (counted.sum() if divisor is None else divisor)


wrong("ignored_rows", "divided by all rows", lambda dloss, z, *, targets: dloss * _ignoring(z, targets, len(z)), "rows")
wrong("ignored_rows", "ignored rows keep p", lambda dloss, z, *, targets: dloss * _ignoring(z, targets, zeroed=False),
      "ignored rows", "hides a position")
wrong("ignored_rows", "-100 as an index", lambda dloss, z, *, targets: dloss * _p_minus_one(z, targets), "IndexError")
wrong("ignored_rows", "a sum", lambda dloss, z, *, targets: dloss * _ignoring(z, targets, 1), "N")
wrong("ignored_rows", "the sign", lambda dloss, z, *, targets: -dloss * _ignoring(z, targets), "the sign")


def _smooth(z, targets, eps, at):
    q = np.full(z.shape, eps / z.shape[1])
    q[np.arange(len(z)), targets] += at
    return soft(z) - q


wrong("label_smoothing", "one-hot", lambda dloss, z, *, targets, eps: dloss * _p_minus_one(z, targets) / len(z),
      "without smoothing")
wrong("label_smoothing", "1 added at the target, not 1 − eps", lambda dloss, z, *, targets, eps: (
    dloss * _smooth(z, targets, eps, 1) / len(z)), "the share of the target", "at the target")
wrong("label_smoothing", "eps for all, not eps/V", lambda dloss, z, *, targets, eps: (
    dloss * (_smooth(z, targets, eps * 6, 1 - eps)) / len(z)), "eps, not eps/V")
wrong("label_smoothing", "the even share forgotten", lambda dloss, z, *, targets, eps: (
    dloss * _p_minus_one(z, targets, 1 - eps) / len(z)), "even share of all classes")
wrong("label_smoothing", "a sum over the rows", lambda dloss, z, *, targets, eps: (
    dloss * _smooth(z, targets, eps, 1 - eps)), "N")

wrong("mse", "the 2 forgotten", lambda dloss, y, *, target: dloss * (y - target) / y.size, "1/2")
wrong("mse", "divided by the rows", lambda dloss, y, *, target: dloss * 2 * (y - target) / len(y), "axis 1", "3")
wrong("mse", "a sum", lambda dloss, y, *, target: dloss * 2 * (y - target), "the number of elements")
wrong("mse", "target − y", lambda dloss, y, *, target: dloss * 2 * (target - y) / y.size, "the sign")
wrong("mse", "target forgotten", lambda dloss, y, *, target: dloss * 2 * y / y.size, "target")

wrong("binary_cross_entropy", "z for σ(z)", lambda dloss, z, *, target: dloss * (z - target) / z.size, "z", "σ")
wrong("binary_cross_entropy", "the gradient by p", lambda dloss, z, *, target: dloss * (
    (sigma(z) - target) / (sigma(z) * (1 - sigma(z)))) / z.size, "p (1 − p)")
wrong("binary_cross_entropy", "σ′ once too often", lambda dloss, z, *, target: dloss * (
    (sigma(z) - target) * sigma(z) * (1 - sigma(z))) / z.size, "p (1 − p)")
wrong("binary_cross_entropy", "a mean over the rows alone", lambda dloss, z, *, target: dloss * (
    sigma(z) - target) / len(z), "axis 1", "3")
wrong("binary_cross_entropy", "target forgotten", lambda dloss, z, *, target: dloss * sigma(z) / z.size, "target")

wrong("centre", "dy passed on", lambda dy, x: dy, "the share of the mean", "dy itself")
wrong("centre", "a sum for the mean", lambda dy, x: dy - total(dy), "the share of the mean", "the same amount")
wrong("centre", "the mean over the rows", lambda dy, x: dy - dy.mean(0), "axis")
wrong("centre", "the mean of everything", lambda dy, x: dy - dy.mean(), "mean")
wrong("centre", "the mean of x", lambda dy, x: dy - mean(x), "lacks dy", "not linear in dy")


def _norm(x, eps):
    c = x - mean(x)
    s = np.sqrt(mean(c * c) + eps)
    return c / s, s


def _normalized(dy, x, eps, a=1.0, b=1.0):
    y, s = _norm(x, eps)
    return (dy - a * mean(dy) - b * y * mean(dy * y)) / s


wrong("normalize", "σ as a constant", lambda dy, x, *, eps: _normalized(dy, x, eps, b=0), "the share of σ")
wrong("normalize", "μ as a constant", lambda dy, x, *, eps: _normalized(dy, x, eps, a=0), "the share of the mean")
wrong("normalize", "1/σ forgotten", lambda dy, x, *, eps: _normalized(dy, x, eps) * _norm(x, eps)[1], "σ")
wrong("normalize", "both as constants", lambda dy, x, *, eps: dy / _norm(x, eps)[1], "the share")
wrong("normalize", "a sum for the second mean", lambda dy, x, *, eps: _normalized(dy, x, eps, b=x.shape[1]),
      "the share of σ")


def _ln(dy, x, gamma, eps):
    return _normalized(gamma * dy, x, eps), (dy * _norm(x, eps)[0]).sum((0, 1)), dy.sum((0, 1))


wrong("layer_norm", "γ forgotten in dx", lambda dy, x, gamma, beta, *, eps: (
    _normalized(dy, x, eps), *_ln(dy, x, gamma, eps)[1:]), "γ")
wrong("layer_norm", "dγ with x and not x̂", lambda dy, x, gamma, beta, *, eps: (
    _ln(dy, x, gamma, eps)[0], (dy * x).sum((0, 1)), dy.sum((0, 1))), "dy ⊙ x")
wrong("layer_norm", "dβ not summed over both axes", lambda dy, x, gamma, beta, *, eps: (
    *_ln(dy, x, gamma, eps)[:2], dy.sum(0)), "not summed")
wrong("layer_norm", "means for the sums", lambda dy, x, gamma, beta, *, eps: (
    _ln(dy, x, gamma, eps)[0], _ln(dy, x, gamma, eps)[1] / 6, dy.mean((0, 1))), "number of rows", "b·t")
wrong("layer_norm", "σ as a constant", lambda dy, x, gamma, beta, *, eps: (
    _normalized(gamma * dy, x, eps, b=0), *_ln(dy, x, gamma, eps)[1:]), "the share of σ")


def _rms(dy, x, gamma, eps, a=0.0, b=1.0):
    r = np.sqrt(mean(x * x) + eps)
    h = x / r
    return (gamma * dy - a * mean(gamma * dy) - b * h * mean(gamma * dy * h)) / r, (dy * h).sum(0)


wrong("rms_norm", "LayerNorm's mean too", lambda dy, x, gamma, *, eps: _rms(dy, x, gamma, eps, a=1), "RMSNorm has not")
wrong("rms_norm", "ρ as a constant", lambda dy, x, gamma, *, eps: _rms(dy, x, gamma, eps, b=0), "the share of ρ")
wrong("rms_norm", "γ in dγ", lambda dy, x, gamma, *, eps: (
    _rms(dy, x, gamma, eps)[0], gamma * _rms(dy, x, gamma, eps)[1]), "gamma too many", "γ ⊙ dy")
wrong("rms_norm", "γ forgotten in dx", lambda dy, x, gamma, *, eps: (
    _rms(dy, x, np.ones_like(gamma), eps)[0], _rms(dy, x, gamma, eps)[1]), "γ")
wrong("rms_norm", "1/ρ forgotten", lambda dy, x, gamma, *, eps: (
    _rms(dy, x, gamma, eps)[0] * np.sqrt(mean(x * x) + eps), _rms(dy, x, gamma, eps)[1]), "ρ")


def _unit(dy, x, b=1.0, of=total):
    r = np.sqrt(total(x * x))
    return (dy - b * x / r * of(dy * x / r)) / r


wrong("unit_rows", "the length as a constant", lambda dy, x: _unit(dy, x, 0), "the share of ‖x‖")
wrong("unit_rows", "a mean for the sum", lambda dy, x: _unit(dy, x, of=mean), "the share of ‖x‖")
wrong("unit_rows", "the length not divided by", lambda dy, x: _unit(dy, x) * np.sqrt(total(x * x)), "‖x‖")
wrong("unit_rows", "divided by the square", lambda dy, x: _unit(dy, x) / np.sqrt(total(x * x)), "‖x‖")
wrong("unit_rows", "the sign of the second part", lambda dy, x: _unit(dy, x, -1), "the share of ‖x‖")
# fmt: on
