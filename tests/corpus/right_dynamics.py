"""Alignments, scans and iterations: the pullback walks back over the steps that the forward took."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import between, n, right, scaled


@right(between(0.2, 0.8, 5))
def logistic_map(x):
    """x ← 3.7 x (1 − x), twelve times: chaos, where slopes grow."""
    steps = [x]
    for _ in range(12):
        steps.append(3.7 * steps[-1] * (1 - steps[-1]))

    def backward(dy):
        for x in steps[-2::-1]:
            dy = dy * 3.7 * (1 - 2 * x)
        return dy

    return steps[-1], backward


@right(n(5, 3), n(3, 3))
def hidden_markov_forward(emissions, moves):
    """α ← log Σ exp(α + moves) + e;  the gradients are posteriors, carried backwards."""
    alphas = [emissions[0]]
    for e in emissions[1:]:
        z = alphas[-1][:, None] + moves
        top = z.max(0)
        alphas.append(np.log(np.exp(z - top).sum(0)) + top + e)
    total = np.log(np.exp(alphas[-1]).sum())

    def backward(dy):
        de, dm = np.zeros_like(emissions), np.zeros_like(moves)
        da = dy * np.exp(alphas[-1] - total)
        for t in range(4, 0, -1):
            de[t] = da
            share = np.exp(alphas[t - 1][:, None] + moves - (alphas[t] - emissions[t])) * da
            dm += share
            da = share.sum(1)
        de[0] = da
        return de, dm

    return total, backward


@right(n(5, 3), n(3, 3))
def viterbi_score(emissions, moves):
    """The best path's score: only what lies on it has a gradient."""
    best, came = emissions[0], []
    for e in emissions[1:]:
        z = best[:, None] + moves
        came.append(z.argmax(0))
        best = z.max(0) + e

    def backward(dy):
        de, dm = np.zeros_like(emissions), np.zeros_like(moves)
        state = int(best.argmax())
        for t in range(4, 0, -1):
            de[t, state] = dy
            before = int(came[t - 1][state])
            dm[before, state] += dy
            state = before
        de[0, state] = dy
        return de, dm

    return best.max(), backward


@right(n(4, 5))
def edit_alignment(cost):
    """Soft time warping: r_ij = c_ij + softmin(r_i₋₁j, r_ij₋₁, r_i₋₁j₋₁)"""
    r, weights = {(0, 0): 0.0}, {}
    for i in range(1, 5):
        for j in range(1, 6):
            came = [at for at in ((i - 1, j), (i, j - 1), (i - 1, j - 1)) if at in r]
            e = np.exp(-np.array([r[at] for at in came]))
            weights[i, j] = dict(zip(came, e / e.sum(), strict=True))
            r[i, j] = cost[i - 1, j - 1] - np.log(e.sum())

    def backward(dy):
        flow = dict.fromkeys(r, 0.0)
        flow[4, 5] = dy
        dc = np.zeros_like(cost)
        for i in range(4, 0, -1):
            for j in range(5, 0, -1):
                dc[i - 1, j - 1] = flow[i, j]
                for at, weight in weights[i, j].items():
                    flow[at] += flow[i, j] * weight
        return dc

    return np.asarray(r[4, 5]), backward


@right(n(6, 3))
def ctc_like(logits):
    """Paths of blank, 1, blank, 2, blank through probabilities, by the forward recursion."""
    e = np.exp(logits)
    p = e / e.sum(1, keepdims=True)
    labels = np.array([0, 1, 0, 2, 0])
    M = np.eye(5) + np.eye(5, k=1) + np.diag([0, 1, 0], 2)[:5, :5]
    a = [np.zeros(5, p.dtype) + p[0, labels] * (np.arange(5) < 2)]
    for t in range(1, 6):
        a.append((a[-1] @ M) * p[t, labels])
    total = a[-1][3] + a[-1][4]

    def backward(dy):
        dp, da = np.zeros_like(p), -dy / total * (np.arange(5) > 2)
        for t in range(5, -1, -1):
            before = a[t - 1] @ M if t else (np.arange(5) < 2)
            np.add.at(dp[t], labels, da * before)
            da = M @ (da * p[t, labels])
        return p * (dp - (dp * p).sum(1, keepdims=True))

    return -np.log(total), backward


@right(n(6, 2), between(-0.8, 0.8, 6, 2))
def selective_scan(x, a):
    """h_t = a_t h_{t−1} + x_t"""
    h = [x[0]]
    for t in range(1, 6):
        h.append(a[t] * h[-1] + x[t])

    def backward(dy):
        dx, da, carried = np.zeros_like(x), np.zeros_like(a), np.zeros_like(dy[0])
        for t in range(5, -1, -1):
            dx[t] = dy[t] + carried
            if t:
                da[t] = dx[t] * h[t - 1]
                carried = a[t] * dx[t]
        return dx, da

    return np.array(h), backward


@right(scaled(n(6)))
def fibonacci_like(x):
    """y_t = y_{t−1} + y_{t−2} + x_t, at any scale"""
    y = []
    for t, one in enumerate(x):
        y.append(one + sum(y[max(t - 2, 0) : t], 0 * one))

    def backward(dy):
        d = dy.copy()
        for t in range(5, -1, -1):
            for before in (t - 1, t - 2):
                if before >= 0:
                    d[before] += d[t]
        return d

    return np.array(y), backward


@right(n(4, 3), n(4))
def neural_memory(keys, values):
    """Fast weights by the delta rule: w += (v − w·k) k after scaling k by half"""
    k = keys / 2
    w, kept = np.zeros(3, keys.dtype), []
    for key, value in zip(k, values, strict=True):
        kept.append(w)
        w = w + (value - w @ key) * key

    def backward(dw):
        dk, dv = np.zeros_like(keys), np.zeros_like(values)
        for t in range(3, -1, -1):
            key, w = k[t], kept[t]
            along = dw @ key
            dv[t] = along
            dk[t] = (values[t] - w @ key) * dw - along * w
            dw = dw - along * key
        return dk / 2, dv

    return w, backward


@right(n(5), n(3))
def unrolled_descent(x, t):
    """Four steps of w −= η (w − x̄(t)) with momentum ½; a fit within the function"""
    target = np.outer(np.sin(t), x).sum(0)
    w, m = np.zeros_like(x), np.zeros_like(x)
    for _ in range(4):
        m = m / 2 + (w - target)
        w = w - 0.3 * m

    def backward(dw):
        dm, dtarget = np.zeros_like(dw), np.zeros_like(dw)
        for _ in range(4):
            dm = dm - 0.3 * dw
            dw, dtarget, dm = dw + dm, dtarget - dm, dm / 2
        return np.sin(t).sum() * dtarget, np.cos(t) * (x @ dtarget)

    return w, backward
