"""Attention in a packed batch: each sequence's rows to the rows of its own keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from npora.machine.threads import in_order, in_parallel
from npora.nn.attention_plan import SCORES, Block, Heads, Piece, plan, shared_plan
from npora.nn.module import Array
from npora.nn.packing import Packing
from npora.nn.rules import Rule, everything
from npora.nn.scaled_attention import attention

AttentionPullback = Callable[[Array], tuple[Array, Array, Array, Array | None]]
PiecePullback = Callable[[Array, Array, Array, Array, Array | None], None]


def packed_attention(
    q: Array,
    k: Array,
    v: Array,
    heads: int,
    packing: Packing,
    key_packing: Packing | None = None,
    rule: Rule = everything,
    *,
    bias: Array | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    rng: np.random.Generator | None = None,
    places: Array | None = None,
    scores_at_once: int = SCORES,
) -> tuple[Array, AttentionPullback]:
    """Attend from each sequence's rows to the rows of its own keys.

    q [n,h·d]  k [s,g·d]  v [s,g·o]  →  y [n,h·o]. `packing` says which rows of q form which sequence, `key_packing`
    the same for k and v (self-attention: the same). Of h query heads h/g in a row share a key head (grouped-query
    attention, Ainslie et al., 2023). backward returns (dq, dk, dv, dbias).

    The work is cut into pieces, and a piece into blocks of queries, as `plan` says. The scores [t,s] of long sequences
    are not kept but computed again in backward: what is kept grows with the tokens and not with their square (Rabe and
    Staats, 2021).

    Parameters
    ----------
    heads : h; the width of q and k gives d and g
    rule : which keys a query sees (`everything`, `causal`, `window(width)`)
    places : int [n], each query's place among the keys of its sequence. Of t queries and s keys the queries are the
        last unless it is given: query number 0 has the place s − t.
    bias : broadcasts to [b,h,t,s] of the longest sequence; a shorter one takes its top left corner. −∞ hides a key.
    scores_at_once : how many scores a piece may have

    Raises
    ------
    ValueError: rows of another number than their packing says, or heads that do not divide.
    """
    key_packing = packing if key_packing is None else key_packing
    sizes = _sizes(q, k, v, heads, packing, key_packing)
    groups, d, e = sizes.groups, sizes.width, v.shape[1] // sizes.groups
    Q = q.reshape(len(q), groups, sizes.per_group, d)  # [n,h·d] → [n,g,h/g,d]
    K, V = k.reshape(len(k), groups, 1, d), v.reshape(len(v), groups, 1, e)  # [s,g·d] → [s,g,1,d]
    B = None if bias is None else _by_group(bias, sizes.per_group)  # [b|1,g|1,h/g|1,t|1,s|1]
    Y = (np.empty if packing.is_full else np.zeros)((len(q), groups, sizes.per_group, e), q.dtype)
    score = partial(attention, scale=scale, dropout_p=dropout_p)
    if places is None:
        pieces = shared_plan(packing, key_packing, rule, sizes, scores_at_once)
    else:
        pieces = tuple(plan(packing, key_packing, rule, sizes, scores_at_once, places))
    seeds = [int(rng.integers(1 << 62)) if rng is not None and dropout_p > 0 else None for _ in pieces]
    backs = in_parallel([
        partial(_attend, score, Q, K, V, B, Y, piece, seed) for piece, seed in zip(pieces, seeds, strict=True)
    ])  # fmt: skip
    shapes, of_y, of_bias, dtype = (Q.shape, K.shape, V.shape), Y.shape, None if B is None else B.shape, q.dtype
    flat = q.shape, k.shape, v.shape

    def backward(dy: Array) -> tuple[Array, Array, Array, Array | None]:
        dQ, dK, dV = (np.zeros(shape, dtype) for shape in shapes)
        dB = None if of_bias is None else np.zeros(of_bias, dtype)
        tasks = [partial(back, dy.reshape(of_y), dQ, dK, dV, dB) for back in backs]
        # To one bias the pieces of several sequences add, and in their order.
        (in_parallel if dB is None else in_order)(tasks)
        dq, dk, dv = (x.reshape(shape) for x, shape in zip((dQ, dK, dV), flat, strict=True))  # [n,g,h/g,d] → [n,h·d]
        return dq, dk, dv, None if bias is None or dB is None else dB.reshape(bias.shape)

    return Y.reshape(len(q), heads * e), backward  # [n,g,h/g,o] → [n,h·o]


def _attend(
    score: Callable[..., tuple[Array, AttentionPullback]],
    Q: Array,
    K: Array,
    V: Array,
    B: Array | None,
    Y: Array,
    piece: Piece,
    seed: int | None,
) -> PiecePullback:
    """Fill the piece's part of Y. The pullback that is returned fills the piece's part of dQ, dK, dV and dB."""
    groups, of_q, of_k = piece.groups, piece.queries, piece.keys
    q, k, v = of_q.spread(Q[:, groups]), of_k.spread(K[:, groups]), of_k.spread(V[:, groups])  # [b,t|s,g,h/g|1,d|e]
    q, k, v = _heads_first(q), _heads_first(k), _heads_first(v)  # [b,g,h/g|1,t|s,d|e]

    def attend(block: Block, rng: np.random.Generator | None) -> tuple[Array, AttentionPullback]:
        t, s = block.queries, block.keys
        bias = None if B is None else B[_cells(B, piece, block)]
        return score(q[..., t, :], k[..., s, :], v[..., s, :], mask=block.mask(), bias=bias, rng=rng)

    y = of_q.spread(Y[:, groups])
    draw = None if seed is None else np.random.default_rng(seed)
    backs: list[AttentionPullback] = []
    for block in piece.blocks:
        _heads_first(y)[..., block.queries, :], back = attend(block, draw)
        backs += [] if piece.recomputed else [back]
        del back  # or its scores would be there beside the next block's
    of_q.collect(y, Y[:, groups])

    def backward(dY: Array, dQ: Array, dK: Array, dV: Array, dB: Array | None) -> None:
        dy, dq = of_q.spread(dY[:, groups]), of_q.spread(dQ[:, groups])
        dk, dv = of_k.spread(dK[:, groups]), of_k.spread(dV[:, groups])
        draw = None if seed is None else np.random.default_rng(seed)
        for number, block in enumerate(piece.blocks):
            t, s = block.queries, block.keys
            back = attend(block, draw)[1] if piece.recomputed else backs[number]
            dq_part, dk_part, dv_part, dbias_part = back(_heads_first(dy)[..., t, :])
            del back
            _heads_first(dq)[..., t, :] = dq_part
            _heads_first(dk)[..., s, :] += dk_part  # every block of queries adds to the keys that it saw
            _heads_first(dv)[..., s, :] += dv_part
            if dB is not None:
                dB[_cells(dB, piece, block)] += dbias_part
        of_q.collect(dq, dQ[:, groups])
        of_k.collect(dk, dK[:, groups])
        of_k.collect(dv, dV[:, groups])

    return backward


def _heads_first(x: Array) -> Array:
    """View x in the order that products want.    [b,t,g,h/g,d]  →  [b,g,h/g,t,d]"""
    return x.transpose(0, 2, 3, 1, 4)


def _by_group(bias: Array, per_group: int) -> Array:
    """View a bias that broadcasts to [b,h,t,s] as [b|1,g|1,h/g|1,t|1,s|1]."""
    batch, heads, t, s = (1,) * (4 - bias.ndim) + bias.shape
    per_group = min(per_group, heads)  # 1 where the heads share the bias
    return bias.reshape(batch, heads // per_group, per_group, t, s)


def _cells(bias: Array, piece: Piece, block: Block) -> tuple[slice, ...]:
    """Say where in a bias [b|1,g|1,h/g|1,t|1,s|1] a block has its own."""
    parts = (piece.sequences, piece.groups, slice(None), block.queries, block.keys)
    return tuple(slice(None) if size == 1 else part for size, part in zip(bias.shape, parts, strict=True))


def _sizes(q: Array, k: Array, v: Array, heads: int, packing: Packing, key_packing: Packing) -> Heads:
    for name, x, rows in (("q", q, packing.rows), ("k", k, key_packing.rows), ("v", v, key_packing.rows)):
        if len(x) != rows:
            raise ValueError(f"{name} has {len(x)} rows, and its packing {rows}: they must agree")
    width = q.shape[1] // heads
    groups = k.shape[1] // max(width, 1)
    fits = groups and not heads % groups and (heads * width, groups * width) == (q.shape[1], k.shape[1])
    if not fits or v.shape[1] % groups:
        raise ValueError(
            f"q is {q.shape[1]} wide, k {k.shape[1]} and v {v.shape[1]}: expected {heads} heads in q, and in k heads "
            "of the same width, whose number divides q's and the width of v"
        )
    return Heads(groups, heads // groups, width)
