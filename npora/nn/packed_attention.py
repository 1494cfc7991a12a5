"""Attention in a packed batch: each sequence's rows to the rows of its own keys."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from npora.machine.threads import in_order, in_parallel
from npora.nn.attention_plan import SCORES, Block, Heads, Layout, Piece, plan, shared_plan
from npora.nn.module import Array
from npora.nn.packing import Packing
from npora.nn.rules import Rule, everything
from npora.nn.scaled_attention import attention

AttentionPullback = Callable[[Array], tuple[Array, Array, Array, Array | None]]
Score = Callable[..., tuple[Array, AttentionPullback]]
PiecePullback = Callable[[Array, Array, Array, Array, Array | None], None]


def packed_attention(
    q: Array, k: Array, v: Array, heads: int, packing: Packing, key_packing: Packing | None = None,
    rule: Rule = everything, *, bias: Array | None = None, scale: float | None = None, dropout_p: float = 0.0,
    rng: np.random.Generator | None = None, places: Array | None = None, scores_at_once: int = SCORES,
) -> tuple[Array, AttentionPullback]:  # fmt: skip
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
    groups, per_group, e = sizes.groups, sizes.per_group, v.shape[1] // sizes.groups
    by_query_head, by_key_head = partial(_by_head, groups, per_group), partial(_by_head, groups, 1)
    B = None if bias is None else _by_group(bias, per_group)  # [b|1,g|1,h/g|1,t|1,s|1]
    y = (np.empty if packing.is_full else np.zeros)((len(q), heads * e), q.dtype)  # [n,h·o]
    arrays = by_query_head(q), by_key_head(k), by_key_head(v), B, by_query_head(y)
    score = partial(attention, scale=scale, dropout_p=dropout_p)
    if places is None:
        pieces = shared_plan(packing, key_packing, rule, sizes, scores_at_once)
    else:
        pieces = plan(packing, key_packing, rule, sizes, scores_at_once, places)
    seeds = [int(rng.integers(1 << 62)) if rng is not None and dropout_p > 0 else None for _ in pieces]
    backs = in_parallel([
        partial(_attend, score, *arrays, piece, seed) for piece, seed in zip(pieces, seeds, strict=True)
    ])  # fmt: skip
    shapes, of_bias, dtype = (q.shape, k.shape, v.shape), None if B is None else B.shape, q.dtype

    def backward(dy: Array) -> tuple[Array, Array, Array, Array | None]:
        dq, dk, dv = (np.zeros(shape, dtype) for shape in shapes)
        dB = None if of_bias is None else np.zeros(of_bias, dtype)
        gradients = by_query_head(dy), by_query_head(dq), by_key_head(dk), by_key_head(dv), dB
        # To one bias the pieces of several sequences add, and in their order.
        (in_parallel if dB is None else in_order)([partial(back, *gradients) for back in backs])
        return dq, dk, dv, None if bias is None or dB is None else dB.reshape(bias.shape)

    return y, backward


def _attend(
    score: Score, Q: Array, K: Array, V: Array, B: Array | None, Y: Array, piece: Piece, seed: int | None
) -> PiecePullback:
    """Fill the piece's part of Y. The pullback that is returned fills the piece's part of dQ, dK, dV and dB."""
    groups, of_q, of_k = piece.groups, piece.queries, piece.keys

    def spread(layout: Layout, x: Array) -> Array:
        return layout.spread(x[:, groups]).transpose(0, 2, 3, 1, 4)  # [n,g,h/g,d] → [b,t,g,h/g,d] → [b,g,h/g,t,d]

    def collect(layout: Layout, part: Array, x: Array) -> None:
        layout.collect(part.transpose(0, 3, 1, 2, 4), x[:, groups])  # and back

    q, k, v, y = spread(of_q, Q), spread(of_k, K), spread(of_k, V), spread(of_q, Y)

    def attend(block: Block, rng: np.random.Generator | None) -> tuple[Array, AttentionPullback]:
        t, s = block.queries, block.keys
        bias = None if B is None else B[_cells(B, piece, block)]
        return score(q[..., t, :], k[..., s, :], v[..., s, :], mask=block.mask(), bias=bias, rng=rng)

    draw = None if seed is None else np.random.default_rng(seed)
    backs: list[AttentionPullback] = []
    for block in piece.blocks:
        y[..., block.queries, :], back = attend(block, draw)
        backs += [] if piece.recomputed else [back]
        del back  # or its scores would be there beside the next block's
    collect(of_q, y, Y)

    def backward(dY: Array, dQ: Array, dK: Array, dV: Array, dB: Array | None) -> None:
        dy, dq, dk, dv = spread(of_q, dY), spread(of_q, dQ), spread(of_k, dK), spread(of_k, dV)
        draw = None if seed is None else np.random.default_rng(seed)
        for number, block in enumerate(piece.blocks):
            t, s = block.queries, block.keys
            back = attend(block, draw)[1] if piece.recomputed else backs[number]
            dq[..., t, :], dk_part, dv_part, dbias_part = back(dy[..., t, :])
            del back
            dk[..., s, :] += dk_part  # every block of queries adds to the keys that it saw
            dv[..., s, :] += dv_part
            if dB is not None:
                dB[_cells(dB, piece, block)] += dbias_part
        for layout, part, x in ((of_q, dq, dQ), (of_k, dk, dK), (of_k, dv, dV)):
            collect(layout, part, x)

    return backward


def _by_head(groups: int, per_group: int, x: Array) -> Array:
    """View rows by the key head that their heads share.    [n,h·d]  →  [n,g,h/g,d]"""
    return x.reshape(len(x), groups, per_group, x.shape[1] // (groups * per_group))


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
