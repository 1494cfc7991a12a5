"""Normalisations, attention, and adapters of the LoRA family."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import between, coin, fixed, n, pair, right, scaled, whole

W0 = fixed(4, 5)
X = n(3, 5)
_P, _Q = fixed(2, 5), fixed(4, 2)
_PLACES = (np.array([0, 1, 2, 3, 3]), np.array([1, 4, 0, 2, 3]))


def softmax_of(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_back(p, dp):
    return p * (dp - (dp * p).sum(-1, keepdims=True))


def _standardized(x, axis=-1, eps=1e-3):
    c = x - x.mean(axis, keepdims=True)
    r = 1 / np.sqrt((c * c).mean(axis, keepdims=True) + eps)
    h = c * r
    return h, lambda dh: r * (dh - dh.mean(axis, keepdims=True) - h * (dh * h).mean(axis, keepdims=True))


# fmt: off
pair("softmax", [X], softmax_of, lambda dy, x: softmax_back(softmax_of(x), dy))
pair("log softmax", [X], lambda x: x - np.log(np.exp(x).sum(-1, keepdims=True)), lambda dy, x: (
    dy - softmax_of(x) * dy.sum(-1, keepdims=True)))
pair("softmax at any scale", [scaled(X)], lambda x: softmax_of(x / np.abs(x).max()),
     lambda dy, x: _scaled_softmax(dy, x))
pair("softmin over columns", [X], lambda x: softmax_of(-x.T).T, lambda dy, x: -softmax_back(softmax_of(-x.T), dy.T).T)
pair("gumbel softmax", [X, between(0.5, 2)], lambda x, t: softmax_of((x + np.arange(5) / 3) / t), lambda dy, x, t: (
    softmax_back(softmax_of((x + np.arange(5) / 3) / t), dy) / t,
    np.asarray(-(softmax_back(softmax_of((x + np.arange(5) / 3) / t), dy) * (x + np.arange(5) / 3)).sum() / t**2)))
pair("layer norm", [X, n(5), n(5)], lambda x, g, b: g * _standardized(x)[0] + b, lambda dy, x, g, b: (
    _standardized(x)[1](dy * g), (dy * _standardized(x)[0]).sum(0), dy.sum(0)))
pair("batch norm", [n(6, 2), n(2)], lambda x, g: g * _standardized(x, 0)[0], lambda dy, x, g: (
    _standardized(x, 0)[1](dy * g), (dy * _standardized(x, 0)[0]).sum(0)))
pair("group norm", [n(2, 6)], lambda x: _standardized(x.reshape(2, 2, 3))[0].reshape(2, 6), lambda dy, x: (
    _standardized(x.reshape(2, 2, 3))[1](dy.reshape(2, 2, 3)).reshape(2, 6)))
pair("root mean square norm", [X, n(5)], lambda x, g: g * x / np.sqrt((x * x).mean(-1, keepdims=True)),
     lambda dy, x, g: (
    _rms_back(dy * g, x), (dy * x / np.sqrt((x * x).mean(-1, keepdims=True))).sum(0)))
pair("unit rows", [X], lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True), lambda dy, x: _rms_back(dy, x) / 5**0.5)
pair("weight norm", [X, n(4, 5), n(4)], lambda x, v, g: x @ (v * (g / np.linalg.norm(v, axis=1))[:, None]).T,
     lambda dy, x, v, g: _weight_norm(dy, x, v, g))
pair("linear attention", [n(4, 2), n(5, 2), n(5, 3)], lambda q, k, v: np.exp(q) @ (np.exp(k).T @ v),
     lambda dy, q, k, v: (
    np.exp(q) * (dy @ (np.exp(k).T @ v).T), np.exp(k) * (v @ (np.exp(q).T @ dy).T), np.exp(k) @ (np.exp(q).T @ dy)))
pair("alibi scores", [n(4, 3), n(4, 3), n()],
     lambda q, k, m: q @ k.T - m * np.abs(np.subtract.outer(range(4), range(4))),
     lambda dy, q, k, m: (dy @ k, dy.T @ q, np.asarray(-(dy * np.abs(np.subtract.outer(range(4), range(4)))).sum())))
pair("rotary positions", [n(4, 6)], lambda x: _turned(x, 1), lambda dy, x: _turned(dy, -1))
pair("sinusoidal positions scaled", [n(4, 6), n()], lambda x, s: x + s * np.sin(np.outer(np.arange(4), np.arange(6))),
     lambda dy, x, s: (dy, np.asarray((dy * np.sin(np.outer(np.arange(4), np.arange(6)))).sum())))
pair("mixture of two experts", [X, n(2, 5), n(4, 5), n(4, 5)], lambda x, g, a, b: (
    softmax_of(x @ g.T)[:, :1] * (x @ a.T) + softmax_of(x @ g.T)[:, 1:] * (x @ b.T)), lambda dy, x, g, a, b: (
    _experts(dy, x, g, a, b)))
pair("lora", [X, n(2, 5), n(4, 2)], lambda x, A, B: x @ W0.T + 1.5 * x @ A.T @ B.T, lambda dy, x, A, B: (
    dy @ W0 + 1.5 * dy @ B @ A, 1.5 * (dy @ B).T @ x, 1.5 * dy.T @ x @ A.T))
pair("vera", [X, n(2), n(4)], lambda x, d, b: (x @ _P.T * d) @ _Q.T * b, lambda dy, x, d, b: (
    (dy * b) @ _Q * d @ _P, ((dy * b) @ _Q * (x @ _P.T)).sum(0), (dy * ((x @ _P.T * d) @ _Q.T)).sum(0)))
pair("rescaled activations", [X, n(5), n(4)], lambda x, a, b: (x * a) @ W0.T * b, lambda dy, x, a, b: (
    (dy * b) @ W0 * a, ((dy * b) @ W0 * x).sum(0), (dy * ((x * a) @ W0.T)).sum(0)))
pair("loha", [n(4, 2), n(2, 5), n(4, 2), n(2, 5), X], lambda a, b, c, d, x: x @ ((a @ b) * (c @ d)).T,
     lambda dy, a, b, c, d, x: (*_loha(dy.T @ x, a, b, c, d), dy @ ((a @ b) * (c @ d))))
pair("lokr", [n(2, 1), n(2, 5), X], lambda a, b, x: x @ np.kron(a, b).T, lambda dy, a, b, x: (
    np.einsum("ipq,pq->i", (dy.T @ x).reshape(2, 2, 5), b)[:, None],
    np.einsum("ipq,i->pq", (dy.T @ x).reshape(2, 2, 5), a[:, 0]), dy @ np.kron(a, b)))
pair("spectral update", [n(5)], lambda c: _spectral(c) * 2, lambda dy, c: (
    2 * np.fft.ifft2(dy).real[_PLACES]))
pair("hira", [n(4, 2), n(2, 5)], lambda B, A: W0 * (B @ A), lambda dy, B, A: ((dy * W0) @ A.T, B.T @ (dy * W0)))
pair("tied factors", [n(3, 2)], lambda A: A @ A.T - np.trace(A @ A.T) * np.eye(3) / 3, lambda dy, A: (
    (dy + dy.T) @ A - 2 * np.trace(dy) * A / 3))
# fmt: on


def _scaled_softmax(dy, x):
    k = np.unravel_index(np.abs(x).argmax(), x.shape)
    m = np.abs(x[k])
    dz = softmax_back(softmax_of(x / m), dy)
    dx = dz / m
    dx[k] -= np.sign(x[k]) * (dz * (x / m)).sum() / m
    return dx


def _rms_back(dy, x):
    r = np.sqrt((x * x).mean(-1, keepdims=True))
    return (dy - (x / r) * (dy * x / r).mean(-1, keepdims=True)) / r


def _weight_norm(dy, x, v, g):
    size = np.linalg.norm(v, axis=1, keepdims=True)
    u, dW = v / size, dy.T @ x
    dg = (dW * u).sum(1)
    return dy @ (u * g[:, None]), g[:, None] / size * (dW - dg[:, None] * u), dg


def _turned(x, sign):
    angle = sign * np.outer(np.arange(4), [1.0, 0.3, 0.1])
    a, b = x[:, :3], x[:, 3:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], 1)


def _experts(dy, x, g, a, b):
    p = softmax_of(x @ g.T)
    dp = np.stack([(dy * (x @ a.T)).sum(1), (dy * (x @ b.T)).sum(1)], 1)
    ds = softmax_back(p, dp)
    da, db = dy * p[:, :1], dy * p[:, 1:]
    return ds @ g + da @ a + db @ b, ds.T @ x, da.T @ x, db.T @ x


def _loha(dW, a, b, c, d):
    left, other = dW * (c @ d), dW * (a @ b)
    return left @ b.T, a.T @ left, other @ d.T, c.T @ other


def _spectral(c):
    F = np.zeros((4, 5))
    F[_PLACES] = c
    return np.fft.ifft2(F).real


@right(n(2, 4, 3), n(2, 5, 3), n(2, 5, 2), coin(4, 5))
def scaled_attention(q, k, v, mask):
    """P = softmax(q kᵀ/√3 where the mask is or the key is the first);  dv = Pᵀ dy, dS = softmax's pullback of dy vᵀ"""
    seen = mask | (np.arange(5) == 0)
    P = softmax_of(np.where(seen, q @ k.swapaxes(1, 2) / 3**0.5, -1e30))

    def backward(dy):
        dS = softmax_back(P, dy @ v.swapaxes(1, 2)) / 3**0.5
        return dS @ k, dS.swapaxes(1, 2) @ q, P.swapaxes(1, 2) @ dy, None

    return P @ v, backward


@right(n(4, 4), n(4, 2), n(4, 4))
def grouped_query_attention(q, k, v):
    """Two query heads of two share one key head; causal. dk adds over both."""
    hide = np.triu(np.full((4, 4), -1e30), 1)
    P = [softmax_of(q[:, 2 * h : 2 * h + 2] @ k.T + hide) for h in range(2)]

    def backward(dy):
        dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
        for h in range(2):
            d = dy[:, 4 * h : 4 * h + 4]
            dS = softmax_back(P[h], d @ v.T)
            dq[:, 2 * h : 2 * h + 2] = dS @ k
            dk += dS.T @ q[:, 2 * h : 2 * h + 2]
            dv += P[h].T @ d
        return dq, dk, dv

    return np.concatenate([P[0] @ v, P[1] @ v], 1), backward


@right(n(4, 3), n(4, 3), n(4, 2), n())
def attention_with_sink(q, k, v, sink):
    """One more logit that takes probability and gives no value."""
    S = np.concatenate([q @ k.T, sink + np.zeros((4, 1))], 1)
    P = softmax_of(S)

    def backward(dy):
        dS = softmax_back(P, np.concatenate([dy @ v.T, np.zeros((4, 1), dy.dtype)], 1))
        return dS[:, :4] @ k, dS[:, :4].T @ q, P[:, :4].T @ dy, np.asarray(dS[:, 4].sum())

    return P[:, :4] @ v, backward


@right(X, n(2, 5), n(4, 2), between(0.5, 2, 4))
def dora(x, A, B, m):
    """W′ = m V/‖V‖ by rows, V = W₀ + B A, the norm differentiated too."""
    V = W0 + B @ A
    size = np.sqrt((V * V).sum(1, keepdims=True))
    U = V / size

    def backward(dy):
        dW = dy.T @ x
        dm = (dW * U).sum(1)
        dV = m[:, None] / size * (dW - dm[:, None] * U)
        return dy @ (m[:, None] * U), B.T @ dV, dV @ A.T, dm

    return x @ (m[:, None] * U).T, backward


@right(n(5, 5), X)
def orthogonal_by_cayley(G, x):
    """R = (I − S)(I + S)⁻¹, S = (G − Gᵀ)/2;  dS = −(I + S)⁻ᵀ-sandwich, made skew"""
    S = (G - G.T) / 2
    inner = np.linalg.inv(np.eye(5) + S)
    R = (np.eye(5) - S) @ inner

    def backward(dy):
        dR = dy.T @ x
        dS = -dR @ inner.T - R.T @ dR @ inner.T
        return (dS - dS.T) / 2, dy @ R

    return x @ R.T, backward


@right(n(3, 4), n(2, 2))
def butterfly(x, angles):
    """Two levels of plane rotations of pairs, then of pairs of pairs."""
    pairs = (((0, 1), (2, 3)), ((0, 2), (1, 3)))

    def turn(z, i, j, t):
        z = z.copy()
        z[:, i], z[:, j] = np.cos(t) * z[:, i] - np.sin(t) * z[:, j], np.sin(t) * z[:, i] + np.cos(t) * z[:, j]
        return z

    steps = [x]
    for level in range(2):
        for k, (i, j) in enumerate(pairs[level]):
            steps.append(turn(steps[-1], i, j, angles[level, k]))

    def backward(dy):
        da = np.zeros_like(angles)
        for step in range(3, -1, -1):
            level, k = divmod(step, 2)
            i, j = pairs[level][k]
            after = steps[step + 1]
            da[level, k] = (dy[:, j] * after[:, i] - dy[:, i] * after[:, j]).sum()
            dy = turn(dy, i, j, -angles[level, k])
        return dy, da

    return steps[-1], backward


@right(n(4, 5), whole(5, 4), n(5, 2), n(4, 5))
def trained_tokens(x, tokens, delta, head):
    """Some rows of a table have deltas of their own; the head is read by another token's row."""
    z = x + np.tanh(delta[tokens]) @ head[:2]

    def backward(dy):
        dt = dy @ head[:2].T * (1 - np.tanh(delta[tokens]) ** 2)
        dd, dh = np.zeros_like(delta), np.zeros_like(head)
        np.add.at(dd, tokens, dt)
        dh[:2] = np.tanh(delta[tokens]).T @ dy
        return dy, None, dd, dh

    return z, backward
