"""Attention in a packed batch: each sequence's rows to the rows of its own keys, in pieces that fit the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from npora.machine.threads import in_parallel
from npora.nn.module import Array
from npora.nn.packing import Packing
from npora.nn.padding import Padding
from npora.nn.scaled_attention import attention

_SCORES = 1 << 18  # at once: a megabyte in float32
_LEAST_QUERIES = 32  # at once, as long as one head is not too much
_Rows = tuple[slice, tuple[int, int]]
AttentionPullback = Callable[[Array], tuple[Array, Array, Array, Array | None]]


@dataclass(frozen=True)
class _Piece:
    """Some sequences of equal length and some key heads, whose scores are computed together."""

    sequences: slice
    rows: slice  # of q
    keys: slice  # of k and v
    batch: int
    t: int
    s: int
    groups: slice  # key heads
    seed: int  # of its dropout


def packed_attention(
    q: Array,
    k: Array,
    v: Array,
    heads: int,
    packing: Packing,
    key_packing: Packing | None = None,
    *,
    causal: bool = False,
    key_mask: Array | None = None,
    bias: Array | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    rng: np.random.Generator | None = None,
    key_value_heads: int | None = None,
    scores_at_once: int = _SCORES,
) -> tuple[Array, AttentionPullback]:
    """Attention of each sequence's rows to the rows of its own keys.

    q [n,h·d]  k [m,g·d]  v [m,g·e]  →  y [n,h·e]. `packing` says which rows of q form which sequence, `key_packing`
    the same for k and v (self-attention: the same). causal: query t sees the keys up to s = t + (keys − queries).
    bias broadcasts to [b,h,t,s] of the longest sequence; a shorter one takes its top left corner. key_mask [b,s]
    hides keys of a dense batch. backward returns (dq, dk, dv, dbias).

    The scores [t,s] of long sequences are computed for a block of queries at a time, and again in backward: what is
    kept grows with the tokens and not with their square (Rabe and Staats, 2021). A block of causal queries stops at the
    last key that it sees.

    key_value_heads : g, a divisor of h: each key head serves h/g query heads in a row (grouped-query attention, Ainslie
    et al., 2023). h unless given.
    scores_at_once : how many scores a piece may have
    """
    key_packing = packing if key_packing is None else key_packing
    both = packing, key_packing
    if _may_be_padded(*both, causal) and _padding_is_cheaper(*both, heads, scores_at_once):
        return _padded(
            q, k, v, heads, packing, key_packing, causal=causal, bias=bias, scale=scale, dropout_p=dropout_p, rng=rng,
            key_value_heads=key_value_heads, scores_at_once=scores_at_once,
        )  # fmt: skip
    groups = heads if key_value_heads is None else key_value_heads
    if heads % groups:
        raise ValueError(f"{heads} heads cannot share {groups} key heads: the one must be a multiple of the other")
    each = heads // groups
    d, e = q.shape[1] // heads, v.shape[1] // groups
    Q = q.reshape(len(q), groups, each, d)  # [n,h·d] → [n,g,h/g,d]
    K, V = k.reshape(len(k), groups, 1, d), v.reshape(len(v), groups, 1, e)  # [m,g·d] → [m,g,1,d]
    y = np.empty((len(q), groups, each, e), dtype=q.dtype)
    by_head = None if bias is None else bias.reshape((1,) * (4 - bias.ndim) + bias.shape)  # [b|1,h|1,t|1,s|1]
    drop = rng if dropout_p > 0 else None
    pieces = list(_pieces(packing, key_packing, groups, each, scores_at_once, drop))

    def blocks(piece: _Piece) -> Iterator[tuple[slice, slice, Callable[[], tuple[Array, AttentionPullback]]]]:
        """The piece's blocks of queries: (queries, keys, a call of their attention)."""
        at_once = _queries_at_once(piece, each, scores_at_once, causal)
        draw = None if drop is None else np.random.default_rng(piece.seed)
        q_heads = _heads(Q, piece.rows, piece.batch, piece.groups)  # [b,g,h/g,t,d]
        k_heads, v_heads = (_heads(x, piece.keys, piece.batch, piece.groups) for x in (K, V))  # [b,g,1,s,d]
        for start in range(0, piece.t, at_once):
            stop = min(start + at_once, piece.t)
            seen = min(max(piece.s - piece.t + stop, 0), piece.s) if causal else piece.s
            queries, keys = slice(start, stop), slice(0, seen)
            mask = None
            if causal and piece.t > 1:  # a lone query, as in generation, sees all of these keys
                mask = np.tri(stop - start, seen, piece.s - piece.t + start, dtype=bool)
            if key_mask is not None:
                visible = key_mask[piece.sequences, None, None, None, :seen]  # [b,1,1,1,s]
                mask = visible if mask is None else mask & visible
            part = None if by_head is None else by_head[_part(by_head, piece, queries, keys, each)]

            def call(
                queries: slice = queries, keys: slice = keys, mask: Array | None = mask, part: Array | None = part
            ) -> tuple[Array, AttentionPullback]:
                return attention(
                    q_heads[..., queries, :], k_heads[..., keys, :], v_heads[..., keys, :],
                    mask=mask, bias=None if part is None else _grouped(part, each), scale=scale,
                    dropout_p=dropout_p, rng=draw,
                )  # fmt: skip

            yield queries, keys, call

    def attend(piece: _Piece) -> list[AttentionPullback]:
        """Fills the piece's part of y. Returns its blocks' pullbacks; none where the scores are computed again."""
        out = _heads(y, piece.rows, piece.batch, piece.groups)
        backs: list[AttentionPullback] = []
        for queries, _, call in blocks(piece):
            out[..., queries, :], back = call()
            backs += [] if _is_recomputed(piece, d, scores_at_once, each) else [back]
            del back  # or its scores would be there beside the next block's
        return backs

    kept = in_parallel([partial(attend, piece) for piece in pieces])
    shapes, of_y, dtype = (Q.shape, K.shape, V.shape), y.shape, q.dtype  # y itself need not be kept

    def backward(dy: Array) -> tuple[Array, Array, Array, Array | None]:
        dQ, dK, dV = (np.zeros(shape, dtype=dtype) for shape in shapes)
        dY = dy.reshape(of_y)
        dbias = None if by_head is None else np.zeros(by_head.shape, dtype=dtype)

        def attend_back(piece: _Piece, backs: list[AttentionPullback]) -> None:
            dy_heads, dq = (_heads(x, piece.rows, piece.batch, piece.groups) for x in (dY, dQ))
            dk, dv = (_heads(x, piece.keys, piece.batch, piece.groups) for x in (dK, dV))
            for number, (queries, keys, call) in enumerate(blocks(piece)):
                back = backs[number] if backs else call()[1]
                dq_part, dk_part, dv_part, dbias_part = back(dy_heads[..., queries, :])
                dq[..., queries, :] = dq_part
                dk[..., keys, :] += dk_part  # every block of queries adds to the keys that it saw
                dv[..., keys, :] += dv_part
                if dbias is not None and dbias_part is not None:
                    place = _part(dbias, piece, queries, keys, each)
                    dbias[place] += dbias_part.reshape(dbias[place].shape)  # [b,g,h/g,t,s] → [b,h,t,s]

        tasks = [partial(attend_back, piece, backs) for piece, backs in zip(pieces, kept, strict=True)]
        # To one bias the pieces of several sequences add, and in their order.
        in_parallel(tasks if dbias is None else [lambda: [task() for task in tasks]])
        dq, dk, dv = dQ.reshape(q.shape), dK.reshape(k.shape), dV.reshape(v.shape)  # [n,g,h/g,d] → [n,h·d]
        return dq, dk, dv, None if bias is None or dbias is None else dbias.reshape(bias.shape)

    return y.reshape(len(q), heads * e), backward  # [n,g,h/g,e] → [n,h·e]


def _padded(
    q: Array, k: Array, v: Array, heads: int, packing: Packing, key_packing: Packing, **options: Any
) -> tuple[Array, AttentionPullback]:
    """packed_attention by way of a padded batch, whose keys of padding are hidden. q, k, v [n,…]  →  [b·t,…]"""
    of_q, of_k = (Padding(np.arange(p.lengths.max()) < p.lengths[:, None]) for p in (packing, key_packing))

    def pad(x: Array, padding: Padding) -> Array:
        return padding.unpack(x).reshape(padding.mask.size, x.shape[1])  # [n,d] → [b,t,d] → [b·t,d]

    def drop(x: Array, padding: Padding) -> Array:
        return padding.pack(x.reshape(*padding.mask.shape, x.shape[1]))  # [b·t,d] → [b,t,d] → [n,d]

    dense, dense_keys = (Packing.dense(*padding.mask.shape) for padding in (of_q, of_k))
    y, back = packed_attention(
        pad(q, of_q), pad(k, of_k), pad(v, of_k), heads, dense, dense_keys, key_mask=of_k.mask, **options
    )

    def backward(dy: Array) -> tuple[Array, Array, Array, Array | None]:
        dq, dk, dv, dbias = back(pad(dy, of_q))
        return drop(dq, of_q), drop(dk, of_k), drop(dv, of_k), dbias

    return drop(y, of_q), backward


def _may_be_padded(packing: Packing, key_packing: Packing, causal: bool) -> bool:
    """Whether the sequences are of unequal lengths, and padding on the right leaves each its keys."""
    t, s = packing.lengths, key_packing.lengths
    if len(t) != len(s) or not len(t) or (_is_one_block(packing) and _is_one_block(key_packing)):
        return False
    if causal and (t != s).any():
        return False  # a query sees the keys up to its own by their places from the end
    return bool(packing.rows == t.sum() and key_packing.rows == s.sum())  # no rows of nobody


def _pieces(
    packing: Packing, key_packing: Packing, groups: int, each: int, scores_at_once: int, rng: np.random.Generator | None
) -> Iterator[_Piece]:
    first = 0
    for (rows, (batch, t)), (keys, (_, s)) in _blocks(packing, key_packing):
        run, width = _size_of_pieces(t, s, groups, each, scores_at_once)
        for begin in range(0, batch, run):
            end = min(begin + run, batch)
            for group in range(0, groups, width):
                yield _Piece(
                    slice(first + begin, first + end),
                    slice(rows.start + begin * t, rows.start + end * t),
                    slice(keys.start + begin * s, keys.start + end * s),
                    end - begin, t, s,
                    slice(group, min(group + width, groups)),
                    0 if rng is None else int(rng.integers(1 << 62)),
                )  # fmt: skip
        first += batch


# How the work is cut. Any cut gives the same values: these decide what they cost.


def _padding_is_cheaper(packing: Packing, key_packing: Packing, heads: int, scores_at_once: int) -> bool:
    """Whether the scores of padding cost less than a piece for each sequence."""
    t, s = packing.lengths, key_packing.lengths
    waste = len(t) * int(t.max()) * int(s.max()) - int((t * s).sum())
    return 4 * heads * waste <= len(t) * scores_at_once


def _size_of_pieces(t: int, s: int, groups: int, each: int, scores_at_once: int) -> tuple[int, int]:
    """(sequences, key heads) in a piece. Rather fewer queries at once than fewer heads: the first of causal queries see
    few keys."""
    scores = each * s  # of one query and one key head
    return (
        max(scores_at_once // max(groups * scores * t, 1), 1),
        min(max(scores_at_once // max(scores * min(t, _LEAST_QUERIES), 1), 1), groups),
    )


def _queries_at_once(piece: _Piece, each: int, scores_at_once: int, causal: bool) -> int:
    """Blocks of about equal size. Causal queries come in four at least, and see five eighths of the keys."""
    width: int = (piece.groups.stop - piece.groups.start) * each * piece.batch * max(piece.s, 1)
    blocks = -(-piece.t // max(scores_at_once // width, 1))
    if causal:
        blocks = max(blocks, min(piece.t // _LEAST_QUERIES, 4))
    return -(-piece.t // max(blocks, 1)) or 1


def _is_recomputed(piece: _Piece, d: int, scores_at_once: int, each: int) -> bool:
    """Whether the scores are computed again in backward: where they are as many as q, k, v and y have numbers, or as
    a piece may have."""
    of_q_and_y, of_k_and_v = 2 * each * piece.t * d, 2 * piece.s * d
    return each * piece.t * piece.s >= min(of_q_and_y + of_k_and_v, scores_at_once)


def _heads(x: Array, rows: slice, batch: int, groups: slice) -> Array:
    """A view of some rows and heads, in the order that products want."""
    part = x[rows, groups]
    part = part.reshape(batch, len(part) // batch, *part.shape[1:])  # [b·t,g,h/g,d] → [b,t,g,h/g,d]
    return np.transpose(part, (0, 2, 3, 1, 4))  # [b,g,h/g,t,d]


def _part(bias: Array, piece: _Piece, queries: slice, keys: slice, each: int) -> tuple[slice, ...]:
    """What belongs to some queries and keys of a piece, in a broadcastable bias [b,h,t,s]."""
    heads = slice(piece.groups.start * each, piece.groups.stop * each)
    parts = (piece.sequences, heads, queries, keys)
    return tuple(slice(None) if size == 1 else part for size, part in zip(bias.shape, parts, strict=True))


def _grouped(bias: Array, each: int) -> Array:
    batch, heads, t, s = bias.shape
    each = min(each, heads)  # 1 where the heads share the bias
    return bias.reshape(batch, heads // each, each, t, s)  # [b,h,t,s] → [b,g,h/g,t,s]


def _blocks(packing: Packing, other: Packing) -> Iterator[tuple[_Rows, _Rows]]:
    """Runs of rows that attention takes as one array: pairs of (rows, (sequences, length)), queries' and keys'.

    Where all lengths agree the whole batch is one block; elsewhere each sequence is.
    """
    if len(packing.lengths) != len(other.lengths):
        raise ValueError(f"{len(packing.lengths)} sequences of queries meet {len(other.lengths)} sequences of keys")
    batch = len(packing.lengths)
    if batch and _is_one_block(packing) and _is_one_block(other):
        whole = (slice(0, packing.rows), (batch, int(packing.lengths[0])))
        yield whole, (slice(0, other.rows), (batch, int(other.lengths[0])))
        return
    for a, t, c, s in zip(packing.starts, packing.lengths, other.starts, other.lengths, strict=True):
        yield (slice(a, a + t), (1, int(t))), (slice(c, c + s), (1, int(s)))


def _is_one_block(packing: Packing) -> bool:
    """Whether all sequences are equally long, and no row is anybody else's."""
    lengths = packing.lengths
    return bool((lengths == lengths[0]).all()) and packing.rows == len(lengths) * lengths[0]
