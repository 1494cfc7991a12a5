"""Recurrences: the pullback walks back over the steps that the forward took."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import between, fixed, n, right

_MOVES = fixed(3, 3)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


@right(n(5, 3), n(3), n(4, 3), n(4, 4))
def recurrent_network(x, h, U, W):
    """h_t = tanh(x_t Uᵀ + h Wᵀ), x [t,i] → y [t,4];    h is the start by its sum"""
    start = h.sum() * np.ones(4)
    states = [start]
    for row in x:
        states.append(np.tanh(U @ row + W @ states[-1]))

    def backward(dy):
        dx, dU, dW, carried = np.zeros_like(x), np.zeros_like(U), np.zeros_like(W), np.zeros(4, x.dtype)
        for t in range(4, -1, -1):
            dz = (dy[t] + carried) * (1 - states[t + 1] ** 2)
            dU += np.outer(dz, x[t])
            dW += np.outer(dz, states[t])
            dx[t], carried = U.T @ dz, W.T @ dz
        return dx, carried.sum() * np.ones_like(h), dU, dW

    return np.array(states[1:]), backward


@right(n(4, 2), n(8, 2), n(8, 2))
def lstm(x, U, W):
    """i, f, o = σ, g = tanh;  c = f c + i g,  h = o tanh c"""
    h, c, kept = np.zeros(2, x.dtype), np.zeros(2, x.dtype), []
    for row in x:
        z = U @ row + W @ h
        i, f, o, g = _sigmoid(z[:2]), _sigmoid(z[2:4]), _sigmoid(z[4:6]), np.tanh(z[6:])
        kept.append((row, h, c, i, f, o, g))
        c = f * c + i * g
        kept[-1] += (np.tanh(c),)
        h = o * np.tanh(c)

    def backward(dy):
        dx, dU, dW = np.zeros_like(x), np.zeros_like(U), np.zeros_like(W)
        dh, dc = dy, 0
        for t in range(3, -1, -1):
            row, h, c, i, f, o, g, squashed = kept[t]
            dc = dc + dh * o * (1 - squashed**2)
            dz = np.concatenate(
                [dc * g * i * (1 - i), dc * c * f * (1 - f), dh * squashed * o * (1 - o), dc * i * (1 - g * g)]
            )
            dU += np.outer(dz, row)
            dW += np.outer(dz, h)
            dx[t], dh, dc = U.T @ dz, W.T @ dz, dc * f
        return dx, dU, dW

    return h, backward


@right(n(4, 2), n(6, 2), n(6, 2))
def gated_recurrent_unit(x, U, W):
    """r, z = σ;  n = tanh(U x + r ∘ (W h));  h = (1 − z) n + z h"""
    h, kept = np.ones(2, x.dtype), []
    for row in x:
        a, b = U @ row, W @ h
        r, z = _sigmoid(a[:2] + b[:2]), _sigmoid(a[2:4] + b[2:4])
        new = np.tanh(a[4:] + r * b[4:])
        kept.append((row, h, r, z, new, b[4:]))
        h = (1 - z) * new + z * h

    def backward(dh):
        dx, dU, dW = np.zeros_like(x), np.zeros_like(U), np.zeros_like(W)
        for t in range(3, -1, -1):
            row, h, r, z, new, b = kept[t]
            dn = dh * (1 - z) * (1 - new**2)
            dz, dr = dh * (h - new) * z * (1 - z), dn * b * r * (1 - r)
            da, db = np.concatenate([dr, dz, dn]), np.concatenate([dr, dz, dn * r])
            dU += np.outer(da, row)
            dW += np.outer(db, h)
            dx[t], dh = U.T @ da, dh * z + W.T @ db
        return dx, dU, dW

    return h, backward


@right(n(3), n(3))
def leapfrog(q, p):
    """Five steps of p −= h/2 sin q, q += h p, p −= h/2 sin q"""
    h, kept = 0.3, []
    for _ in range(5):
        half = p - h / 2 * np.sin(q)
        kept.append((q, q + h * half))
        q = q + h * half
        p = half - h / 2 * np.sin(q)

    def backward(dq, dp):
        for before, after in kept[::-1]:
            dq = dq - h / 2 * np.cos(after) * dp
            dp = dp + h * dq
            dq = dq - h / 2 * np.cos(before) * dp
        return dq, dp

    return (q, p), backward


@right(n(3), n(4))
def runge_kutta(y, a):
    """Classical steps of y′ = tanh(Ay) with A a rotation scaled by a's sum: three stages kept a step."""
    A, kept = _MOVES * np.tanh(a.sum()), []

    def slope(y):
        return np.tanh(A @ y)

    for _ in range(3):
        stages = [y]
        k1 = slope(y)
        stages.append(y + 0.1 * k1)
        k2 = slope(stages[1])
        stages.append(y + 0.1 * k2)
        k3 = slope(stages[2])
        stages.append(y + 0.2 * k3)
        k4 = slope(stages[3])
        kept.append(stages)
        y = y + 0.2 / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    def backward(dy):
        dA = np.zeros_like(A)
        for stages in kept[::-1]:
            total, onward = dy, 0 * dy
            for stage, weight, step in zip(stages[::-1], (1, 2, 2, 1), (0, 0.2, 0.1, 0.1), strict=True):
                dz = (0.2 / 6 * weight * dy + step * onward) * (1 - np.tanh(A @ stage) ** 2)
                dA += np.outer(dz, stage)
                onward = A.T @ dz
                total = total + onward
            dy = total
        return dy, (dA * _MOVES).sum() * (1 - np.tanh(a.sum()) ** 2) * np.ones_like(a)

    return y, backward


@right(between(0.5, 4, 3, 4))
def newton_square_root(a):
    """x ← (x + a/x)/2, eight times from 1; the steps are undone, not the limit."""
    steps = [np.ones_like(a)]
    for _ in range(8):
        steps.append((steps[-1] + a / steps[-1]) / 2)

    def backward(dx):
        da = np.zeros_like(a)
        for x in steps[-2::-1]:
            da, dx = da + dx / (2 * x), dx * (1 - a / x**2) / 2
        return da

    return steps[-1], backward


@right(n(3, 4))
def implicit_fixed_point(x):
    """y = x + cos(y)/2 to rounding; by the implicit function, dx = dy/(1 + sin(y)/2)"""
    y = x
    for _ in range(60):
        y = x + np.cos(y) / 2
    return y, lambda dy: dy / (1 + np.sin(y) / 2)


@right(n(6), n(3))
def horner(c, x):
    """((c₀ x + c₁) x + …): each step's value is kept."""
    values = [0 * x]
    for one in c:
        values.append(values[-1] * x + one)

    def backward(dy):
        dc, dx = np.zeros_like(c), np.zeros_like(x)
        for k in range(5, -1, -1):
            dc[k] = dy.sum()
            dx, dy = dx + dy * values[k], dy * x
        return dc, dx

    return values[-1], backward


@right(between(1, 3, 6))
def continued_fraction(a):
    """a₀ + 1/(a₁ + 1/(…)):    each level multiplies by −1/tail²"""
    tails = [a[5]]
    for k in range(4, -1, -1):
        tails.append(a[k] + 1 / tails[-1])

    def backward(dy):
        da = np.zeros_like(a)
        for k, tail in enumerate(tails[::-1]):
            if k:
                dy = -dy / tail**2
            da[k] = dy
        return da

    return tails[-1], backward


@right(between(-0.9, 0.9, 6), n())
def exponential_smoothing(x, a):
    """s = (1 − g) s + g x with g = σ(a)"""
    g, s = _sigmoid(a), [0 * a]
    for one in x:
        s.append((1 - g) * s[-1] + g * one)

    def backward(dy):
        dx, dg, carried = np.zeros_like(x), 0.0, 0.0
        for t in range(5, -1, -1):
            carried = carried + dy[t]
            dg += carried * (x[t] - s[t])
            dx[t], carried = carried * g, carried * (1 - g)
        return dx, np.asarray(dg * g * (1 - g))

    return np.array(s[1:]), backward
