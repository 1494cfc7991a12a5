"""Of training steps, of LoRA and its kin."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from tests.study.answers import wrong


def _adam(theta, g, m, v, t, lr, beta1, beta2, eps, *, a=None, b=None, inside=False, old=False, g2=None):
    m1 = beta1 * m + (1 - beta1) * g
    v1 = beta2 * v + (1 - beta2) * (g**2 if g2 is None else g2)
    a, b = (1 - beta1**t if a is None else a), (1 - beta2**t if b is None else b)
    um, uv = (m, v) if old else (m1, v1)
    low = np.sqrt(uv / b + eps) if inside else np.sqrt(uv / b) + eps
    return theta - lr * um / a / low, m1, v1


# fmt: off
wrong("adam", "no correction", lambda theta, g, m, v, **k: _adam(theta, g, m, v, **k, a=1, b=1), "correction")
wrong("adam", "ε in the root", lambda theta, g, m, v, **k: _adam(theta, g, m, v, **k, inside=True), "ε inside the root")
wrong("adam", "the old moments", lambda theta, g, m, v, **k: _adam(theta, g, m, v, **k, old=True), "the old m")
wrong("adam", "g for g²", lambda theta, g, m, v, **k: (*_adam(theta, g, m, v, **k)[:2], _adam(
    theta, g, m, v, **k, g2=g)[2]), "g in the place of g²")
wrong("adam", "the step added", lambda theta, g, m, v, **k: (
    2 * theta - _adam(theta, g, m, v, **k)[0], *_adam(theta, g, m, v, **k)[1:]), "the step")


def _adamw(theta, g, m, v, decay, lr, **k):
    return _adam(theta * (1 - lr * decay), g, m, v, lr=lr, **k)


wrong("adamw", "no decay", lambda theta, g, m, v, *, decay, **k: _adam(theta, g, m, v, **k), "the decay of θ")
wrong("adamw", "the decay in g", lambda theta, g, m, v, *, decay, **k: _adam(theta, g + decay * theta, m, v, **k),
      "the decay in g")
wrong("adamw", "the decay without lr", lambda theta, g, m, v, *, decay, **k: _adam(
    theta * (1 - decay), g, m, v, **k), "lr is not multiplied into")
wrong("adamw", "the decay after the step", lambda theta, g, m, v, *, decay, **k: (
    _adam(theta, g, m, v, **k)[0] * (1 - k["lr"] * decay), *_adam(theta, g, m, v, **k)[1:]), "after the step")
wrong("adamw", "θ grows", lambda theta, g, m, v, *, decay, **k: _adamw(theta, g, m, v, -decay, **k), "the decay of θ")


def _clip(norm, g, h, c):
    s = min(1.0, c / norm)
    return s * g, s * h


wrong("clipping", "each by its own norm", lambda g, h, *, max_norm: tuple(
    x * min(1, max_norm / np.sqrt((x**2).sum())) for x in (g, h)), "own norm")
wrong("clipping", "the sum of both norms", lambda g, h, *, max_norm: _clip(
    np.linalg.norm(g) + np.linalg.norm(h), g, h, max_norm), "the sum of both norms")
wrong("clipping", "no root", lambda g, h, *, max_norm: _clip((g**2).sum() + (h**2).sum(), g, h, max_norm), "square")
wrong("clipping", "always scaled", lambda g, h, *, max_norm: tuple(
    x * max_norm / np.sqrt((g**2).sum() + (h**2).sum()) for x in (g, h)), "small enough")
wrong("clipping", "element by element", lambda g, h, *, max_norm: tuple(
    np.clip(x, -max_norm, max_norm) for x in (g, h)), "element")


def _lora(dy, x, A, B, W, s, sx=None, sa=None, sb=None):
    return (dy @ W + (s if sx is None else sx) * dy @ B @ A, (s if sa is None else sa) * B.T @ dy.T @ x,
            (s if sb is None else sb) * dy.T @ (x @ A.T))


wrong("lora", "s forgotten everywhere", lambda dy, x, A, B, *, W, s: _lora(dy, x, A, B, W, s, 1, 1, 1), "1/(s)",
      "without s")
wrong("lora", "s twice in dA", lambda dy, x, A, B, *, W, s: _lora(dy, x, A, B, W, s, sa=s * s), "(s)", "s²")
wrong("lora", "the adapter's share of dx forgotten", lambda dy, x, A, B, *, W, s: _lora(dy, x, A, B, W, s, sx=0),
      "the share of the adapter")
wrong("lora", "W's share of dx forgotten", lambda dy, x, A, B, *, W, s: (
    s * dy @ B @ A, *_lora(dy, x, A, B, W, s)[1:]), "the share of W")
wrong("lora", "dA and dB swapped", lambda dy, x, A, B, *, W, s: (
    _lora(dy, x, A, B, W, s)[0], _lora(dy, x, A, B, W, s)[2], _lora(dy, x, A, B, W, s)[1]), "shape", "swapped")

wrong("lora_merged", "s forgotten", lambda dV, A, B, *, W, s: (B.T @ dV, dV @ A.T), "1/(s)")
wrong("lora_merged", "s twice", lambda dV, A, B, *, W, s: (s * s * B.T @ dV, s * s * dV @ A.T), "(s)")
wrong("lora_merged", "dA transposed", lambda dV, A, B, *, W, s: (s * dV.T @ B, s * dV @ A.T), "transpose")
wrong("lora_merged", "swapped", lambda dV, A, B, *, W, s: (s * dV @ A.T, s * B.T @ dV), "shape")
wrong("lora_merged", "V for dV", lambda dV, A, B, *, W, s: (
    s * B.T @ (W + s * B @ A), s * (W + s * B @ A) @ A.T), "lacks dy", "not linear")


def _dora(dy, x, A, B, m, W, s, c, g=None):
    V, dz = W + s * B @ A, (m / c if g is None else g) * dy
    du = s * dz @ B
    return dz @ V, du.T @ x, s * dz.T @ (x @ A.T), (dy * (x @ V.T)).sum(0) / c


wrong("dora", "m/c forgotten", lambda dy, x, A, B, m, *, W, s, c: _dora(dy, x, A, B, m, W, s, c, 1.0), "m/c")
wrong("dora", "1/c forgotten in dm", lambda dy, x, A, B, m, *, W, s, c: (
    *_dora(dy, x, A, B, m, W, s, c)[:3], _dora(dy, x, A, B, m, W, s, c)[3] * c), "a factor 1/c is missing",
    "a factor c too many")
wrong("dora", "the adapter's share forgotten in dm", lambda dy, x, A, B, m, *, W, s, c: (
    *_dora(dy, x, A, B, m, W, s, c)[:3], (dy * (x @ W.T)).sum(0) / c), "the share of the adapter")
wrong("dora", "m for m/c", lambda dy, x, A, B, m, *, W, s, c: _dora(dy, x, A, B, m, W, s, c, m), "1/c")
wrong("dora", "m too often in dm", lambda dy, x, A, B, m, *, W, s, c: (
    *_dora(dy, x, A, B, m, W, s, c)[:3], _dora(dy, x, A, B, m, W, s, c)[3] * m), "a factor m too many")


def _vera(dy, x, d, b, A, B, bb=None, dd=None, db_d=None):
    u, bb, dd = x @ A.T, b if bb is None else bb, d if dd is None else dd
    dw = (bb * dy) @ B
    return (dd * dw) @ A, (dw * u).sum(0), (dy * (((d if db_d is None else db_d) * u) @ B.T)).sum(0)


wrong("vera", "b forgotten", lambda dy, x, d, b, *, A, B: _vera(dy, x, d, b, A, B, bb=1.0), "without b")
wrong("vera", "d forgotten in dx", lambda dy, x, d, b, *, A, B: _vera(dy, x, d, b, A, B, dd=1.0), "without d")
wrong("vera", "d forgotten in db", lambda dy, x, d, b, *, A, B: _vera(dy, x, d, b, A, B, db_d=1.0), "without d")
wrong("vera", "db not summed", lambda dy, x, d, b, *, A, B: (
    *_vera(dy, x, d, b, A, B)[:2], dy * ((d * (x @ A.T)) @ B.T)), "not summed")
wrong("vera", "d in dd", lambda dy, x, d, b, *, A, B: (
    _vera(dy, x, d, b, A, B)[0], d * _vera(dy, x, d, b, A, B)[1], _vera(dy, x, d, b, A, B)[2]), "a factor d too many")


def _pen(A, c=1.0, root=True):
    G = A @ A.T - c * np.eye(len(A))
    f = np.sqrt(((A @ A.T - np.eye(len(A))) ** 2).sum())
    return G @ A / (f if root else 1)


wrong("adalora_penalty", "one of two terms", lambda df, A: df * _pen(A), "1/2")
wrong("adalora_penalty", "of the square", lambda df, A: df * 2 * _pen(A, root=False), "(f", "the output")
wrong("adalora_penalty", "I forgotten", lambda df, A: df * 2 * _pen(A, 0.0), "the share of I")
wrong("adalora_penalty", "df forgotten", lambda df, A: 2 * _pen(A), "lacks dy", "not linear")
wrong("adalora_penalty", "the sign", lambda df, A: -df * 2 * _pen(A), "the sign")


def _loha(dV, W1a, W1b, W2a, W2b, s, d1=None, d2=None):
    d1 = s * dV * (W2a @ W2b) if d1 is None else d1
    d2 = s * dV * (W1a @ W1b) if d2 is None else d2
    return d1 @ W1b.T, W1a.T @ d1, d2 @ W2b.T, W2a.T @ d2


wrong("loha", "the other product forgotten", lambda dV, W1a, W1b, W2a, W2b, *, W, s: _loha(
    dV, W1a, W1b, W2a, W2b, s, s * dV, s * dV), "without the other product")
wrong("loha", "s forgotten", lambda dV, W1a, W1b, W2a, W2b, *, W, s: tuple(
    x / s for x in _loha(dV, W1a, W1b, W2a, W2b, s)), "1/(s)")
wrong("loha", "its own product", lambda dV, W1a, W1b, W2a, W2b, *, W, s: _loha(
    dV, W1a, W1b, W2a, W2b, s, s * dV * (W1a @ W1b), s * dV * (W2a @ W2b)), "its own product")
wrong("loha", "s twice in the second", lambda dV, W1a, W1b, W2a, W2b, *, W, s: _loha(
    dV, W1a, W1b, W2a, W2b, s, d2=s * s * dV * (W1a @ W1b)), "(s")
wrong("loha", "1 and 2 swapped", lambda dV, W1a, W1b, W2a, W2b, *, W, s: (
    lambda g: (g[2], g[3], g[0], g[1]))(_loha(dV, W1a, W1b, W2a, W2b, s)), "swapped")


def _nf4(above=8, below=7, scale=True, order=True):
    delta, q = (1 / 32 + 1 / 30) / 2, NormalDist().inv_cdf
    up = [q(p) for p in np.linspace(1 - delta, 0.5, above + 1)[:-1]]
    down = [-q(p) for p in np.linspace(1 - delta, 0.5, below + 1)[:-1]]
    levels = np.array([*up, 0.0, *down])
    return (np.sort(levels) if order else levels) / (max(up) if scale else 1)


wrong("nf4_levels", "not divided", lambda: _nf4(scale=False), "Φ⁻¹(1 − δ)")
wrong("nf4_levels", "8 below and 7 above", lambda: _nf4(7, 8), "8 below 0 and 7 above")
wrong("nf4_levels", "not sorted", lambda: _nf4(order=False), "not sorted")
wrong("nf4_levels", "even steps", lambda: np.linspace(-1, 1, 16), "even steps")
wrong("nf4_levels", "17 of them", lambda: _nf4(8, 8), "shape")
# fmt: on
