"""Of attention and of where rows lie."""

from __future__ import annotations

import numpy as np

from tests.study.answers import soft, total, wrong

# fmt: off
wrong("scores", "no 1/√d", lambda dz, q, k: (dz @ k, dz.T @ q), "√(d")
wrong("scores", "1/d", lambda dz, q, k: (dz @ k / 4, dz.T @ q / 4), "√(d")
wrong("scores", "1/√d in dq alone", lambda dz, q, k: (dz @ k / 2, dz.T @ q), "√(d")
wrong("scores", "dk transposed", lambda dz, q, k: (dz @ k / 2, q.T @ dz / 2), "transpose")
wrong("scores", "√d for 1/√d", lambda dz, q, k: (dz @ k * 2, dz.T @ q * 2), "d")


def _att(dy, q, k, v, seen=None, pull=None, scale=None, p_of_v=True, again=None):
    d = np.sqrt(q.shape[-1])
    z = q @ k.T / d
    p = soft(z if seen is None else np.where(seen, z, -np.inf))
    dp = dy @ v.T
    dz = p * (dp - total(dp * p)) if pull is None else pull(p, dp)
    c = 1 / d if scale is None else scale
    return dz @ k * c, dz.T @ q * c, (p if p_of_v else z).T @ dy


wrong("attention", "no 1/√d", lambda dy, q, k, v: _att(dy, q, k, v, scale=1), "√(d")
wrong("attention", "softmax's sum forgotten", lambda dy, q, k, v: _att(dy, q, k, v, pull=lambda p, dp: p * dp),
      "the share of the sum in softmax")
wrong("attention", "softmax's pullback forgotten", lambda dy, q, k, v: _att(dy, q, k, v, pull=lambda p, dp: dp),
      "dp in the place of dz")
wrong("attention", "the scores for p in dv", lambda dy, q, k, v: _att(dy, q, k, v, p_of_v=False),
      "the scores in the place of p")
wrong("attention", "summed over the queries in softmax", lambda dy, q, k, v: _att(
    dy, q, k, v, pull=lambda p, dp: p * (dp - (dp * p).sum(0))), "softmax", "axis")


def _tri(q):
    return np.tri(len(q), dtype=bool)


wrong("causal_attention", "the mask forgotten", lambda dy, q, k, v: _att(dy, q, k, v), "masked keys")
wrong("causal_attention", "sees keys behind it alone", lambda dy, q, k, v: _att(dy, q, k, v, _tri(q).T),
      "masked keys", "mask")
wrong("causal_attention", "its own key hidden", lambda dy, q, k, v: _att(
    dy, q, k, v, np.tri(len(q), k=-1, dtype=bool)), "nan")
wrong("causal_attention", "no 1/√d", lambda dy, q, k, v: _att(dy, q, k, v, _tri(q), scale=1), "√(d")
wrong("causal_attention", "softmax's sum forgotten", lambda dy, q, k, v: _att(
    dy, q, k, v, _tri(q), pull=lambda p, dp: p * dp), "the share of the sum in softmax")


def _grouped(dy, q, k, v, of=lambda j, each, g: j // each, put=None, one=_att):
    each = len(q) // len(k)
    dq, dk, dv = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for j in range(len(q)):
        g = j // each
        a, b, c = one(dy[j], q[j], k[g], v[g])
        dq[j] = a
        to = of(j, each, len(k))
        if put == "last":
            dk[to], dv[to] = b, c
        else:
            dk[to] += b
            dv[to] += c
    return (dq, dk / each, dv / each) if put == "mean" else (dq, dk, dv)


wrong("grouped_attention", "the last query head's alone", lambda dy, q, k, v: _grouped(dy, q, k, v, put="last"),
      "last query head alone")
wrong("grouped_attention", "a mean over the group", lambda dy, q, k, v: _grouped(dy, q, k, v, put="mean"), "1/(h/g")
wrong("grouped_attention", "groups taken by turns", lambda dy, q, k, v: _grouped(
    dy, q, k, v, of=lambda j, each, g: j % g), "by turns")
wrong("grouped_attention", "not summed over the group", lambda dy, q, k, v: (
    _grouped(dy, q, k, v)[0], *(x.repeat(3, 0) for x in _grouped(dy, q, k, v)[1:])), "shape")
wrong("grouped_attention", "softmax's sum forgotten", lambda dy, q, k, v: _grouped(
    dy, q, k, v, one=lambda *a: _att(*a, pull=lambda p, dp: p * dp)), "the share of the sum in softmax")


def _turn(x, positions, sign=1, second=1, theta=10000.0, pairs=True):
    d = x.shape[-1]
    angle = positions[:, None] * theta ** (-np.arange(0, d, 2) / d)
    c, s = np.cos(angle), sign * np.sin(angle)
    a, b = x[:, : d // 2], x[:, d // 2 :]
    return np.concatenate([a * c - b * s, b * c + second * a * s], -1)


wrong("rotary", "turned forwards", lambda dy, x, *, positions: _turn(dy, positions), "turned forwards")
wrong("rotary", "the second half's sign", lambda dy, x, *, positions: _turn(dy, positions, -1, -1), "second half")
wrong("rotary", "no sines", lambda dy, x, *, positions: (
    _turn(dy, positions) + _turn(dy, positions, -1)) / 2, "without sin φ")
wrong("rotary", "neighbours for halves", lambda dy, x, *, positions: _turn(
    dy.reshape(len(dy), -1, 2).swapaxes(1, 2).reshape(dy.shape), positions, -1).reshape(
    len(dy), 2, -1).swapaxes(1, 2).reshape(dy.shape), "neighbour", "pair", "wrong", "unlike")
wrong("rotary", "dy passed on", lambda dy, x, *, positions: dy, "dy itself")


def _unpacked(dy, x, mask):
    dx = np.zeros_like(x)
    dx[mask] = dy
    return dx


def _in_a_row(dy, x):
    dx = np.zeros_like(x)
    dx.reshape(-1, x.shape[-1])[: len(dy)] = dy
    return dx


def _by_columns(dy, x, mask):
    dx = np.zeros_like(x)
    dx.swapaxes(0, 1)[mask.T] = dy
    return dx


wrong("packing", "dy's rows", lambda dy, x, *, mask: dy, "shape")
wrong("packing", "at the beginning", lambda dy, x, *, mask: _in_a_row(dy, x), "at the beginning")
wrong("packing", "position by position", lambda dy, x, *, mask: _by_columns(dy, x, mask), "position by position")
wrong("packing", "the mask read as padding", lambda dy, x, *, mask: _unpacked(dy, x, ~mask), "ValueError")
wrong("packing", "dx not zero in the padding", lambda dy, x, *, mask: _unpacked(dy, x, mask) + ~mask[..., None],
      "lacks dy")


def _packed(dy, q, k, v, lengths, one=_att):
    ends = np.cumsum(lengths)[:-1]
    parts = [one(*each) for each in zip(*(np.split(x, ends) for x in (dy, q, k, v)), strict=True)]
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


wrong("packed_attention", "as one sequence", lambda dy, q, k, v, *, lengths: _att(dy, q, k, v), "other sequences")
wrong("packed_attention", "sequences back in another order", lambda dy, q, k, v, *, lengths: tuple(
    np.concatenate(np.split(x, [lengths[0]])[::-1]) for x in _packed(dy, q, k, v, lengths)), "order", "shifted")
wrong("packed_attention", "no 1/√d", lambda dy, q, k, v, *, lengths: _packed(
    dy, q, k, v, lengths, lambda *a: _att(*a, scale=1)), "√(d")
wrong("packed_attention", "the first sequence alone", lambda dy, q, k, v, *, lengths: tuple(
    x * (np.arange(5) < lengths[0])[:, None] for x in _packed(dy, q, k, v, lengths)), "zero in some slices")
wrong("packed_attention", "the second half's rows not put back", lambda dy, q, k, v, *, lengths: tuple(
    x[: lengths[0]] for x in _packed(dy, q, k, v, lengths)), "shape")
# fmt: on
