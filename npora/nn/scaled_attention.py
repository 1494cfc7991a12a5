"""Scaled dot-product attention: on one block of equal lengths, and on the rows of a packed batch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from npora.nn.dropout import dropout
from npora.nn.module import Array, Identities, Named, declares
from npora.nn.packing import Packing
from npora.nn.softmax import softmax


def _queries_and_keys_balance(inputs: Named, gradients: Named) -> Identities:
    """z = q kᵀ does not see q → c q, k → k / c."""
    q_terms = (inputs["q"] * gradients["q"]).reshape(*inputs["q"].shape[:-2], -1)  # [...,t·d]
    k_terms = (inputs["k"] * gradients["k"]).reshape(*inputs["k"].shape[:-2], -1)  # [...,s·d]
    yield "Σ qᵀ dq = Σ dkᵀ k", np.concatenate([q_terms, -k_terms], axis=-1)


@declares(_queries_and_keys_balance)
def attention(
    q: Array,
    k: Array,
    v: Array,
    *,
    mask: Array | None = None,
    bias: Array | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    rng: np.random.Generator | None = None,
) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array, Array | None]]]:
    """y = dropout(softmax(scale · q kᵀ + bias)) v    (Vaswani et al., 2017).

    q [...,t,d]  k [...,s,d]  v [...,s,e]  →  y [...,t,e]; mask (True: may attend) and bias broadcast to [...,t,s], and
    k and v along the leading axes; scale is 1/√d unless given. With p the softmax and a = dropout(p):

        dv = aᵀ dy               (1)
        da = dy vᵀ               (2)
        dz = p ⊙ (dp − Σ dp p)   (3)   softmax's pullback, after dropout's
        dbias = dz               (4)   summed over the axes that were broadcast
        dq = scale · dz k        (5)
        dk = scale · dzᵀ q       (6)

    backward returns (dq, dk, dv, dbias). A query whose keys are all masked gives zeros and passes no gradient.
    Identity, for each head: Σ_t q_tᵀ dq_t = Σ_s dk_sᵀ k_s.
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    z = (q * scale) @ k.swapaxes(-1, -2)  # [...,t,s]
    if bias is not None:
        z = z + bias
    p, back_softmax = softmax(z, mask)
    a, back_dropout = dropout(p, dropout_p, rng) if rng is not None and dropout_p > 0 else (p, None)

    def backward(dy: Array) -> tuple[Array, Array, Array, Array | None]:
        dv = a.swapaxes(-1, -2) @ dy  # (1) [...,s,e]
        da = dy @ v.swapaxes(-1, -2)  # (2) [...,t,s]
        dz = back_softmax(da if back_dropout is None else back_dropout(da))  # (3)
        dbias = None if bias is None else sum_to_shape(dz, bias.shape)  # (4)
        dq = (dz @ k) * scale  # (5) [...,t,d]
        dk = dz.swapaxes(-1, -2) @ (q * scale)  # (6) [...,s,d]
        return dq, sum_to_shape(dk, k.shape), sum_to_shape(dv, v.shape), dbias

    return a @ v, backward  # [...,t,e]


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
) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array, Array | None]]]:
    """Attention of each sequence's rows to the rows of its own keys.

    q [n,h·d]  k [m,g·d]  v [m,g·e]  →  y [n,h·e]. `packing` says which rows of q form which sequence, `key_packing`
    the same for k and v (self-attention: the same). causal: query t sees the keys up to s = t + (keys − queries).
    bias broadcasts to [b,h,t,s] of the longest sequence; a shorter one takes its top left corner. key_mask [b,s]
    hides keys of a dense batch. backward returns (dq, dk, dv, dbias).

    key_value_heads : g, a divisor of h: each key head serves h/g query heads in a row (grouped-query attention, Ainslie
    et al., 2023). h unless given.
    """
    key_packing = packing if key_packing is None else key_packing
    groups = heads if key_value_heads is None else key_value_heads
    if heads % groups:
        raise ValueError(f"{heads} heads cannot share {groups} key heads: the one must be a multiple of the other")
    by_head = None if bias is None else bias.reshape((1,) * (4 - bias.ndim) + bias.shape)  # [b|1,h|1,t|1,s|1]
    y = np.empty((len(q), v.shape[1] // groups * heads), dtype=q.dtype)
    parts = []
    for number, ((rows, query_shape), (keys, key_shape)) in enumerate(packing.blocks(key_packing)):
        (batch, t), s = query_shape, key_shape[1]
        sequence = slice(None) if batch == len(packing.lengths) else slice(number, number + 1)
        mask = np.tri(t, s, s - t, dtype=bool) if causal else None
        if key_mask is not None:
            visible = key_mask[sequence, None, None, None, :s]  # [b,1,1,1,s]
            mask = visible if mask is None else mask & visible
        corner = None if by_head is None else _corner(by_head, sequence, t, s)
        part, back = attention(
            _split_heads(q[rows], batch, groups, heads // groups),  # [b,g,h/g,t,d]
            _split_heads(k[keys], batch, groups, 1),  # [b,g,1,s,d]
            _split_heads(v[keys], batch, groups, 1),  # [b,g,1,s,e]
            mask=mask,
            bias=None if by_head is None or corner is None else _group(by_head[corner], groups),
            scale=scale,
            dropout_p=dropout_p,
            rng=rng,
        )
        y[rows] = _join_heads(part)
        parts.append((rows, keys, batch, corner, back))
    shapes, dtype = (q.shape, k.shape, v.shape), q.dtype

    def backward(dy: Array) -> tuple[Array, Array, Array, Array | None]:
        dq, dk, dv = (np.empty(shape, dtype=dtype) for shape in shapes)
        dbias = None if by_head is None else np.zeros(by_head.shape, dtype=dtype)
        for rows, keys, batch, corner, back in parts:
            dq_part, dk_part, dv_part, dbias_part = back(_split_heads(dy[rows], batch, groups, heads // groups))
            dq[rows] = _join_heads(dq_part)
            dk[keys] = _join_heads(dk_part)
            dv[keys] = _join_heads(dv_part)
            if dbias is not None and corner is not None and dbias_part is not None:
                dbias[corner] += dbias_part.reshape(dbias[corner].shape)  # [b,g,h/g,t,s] → [b,h,t,s]
        return dq, dk, dv, None if bias is None or dbias is None else dbias.reshape(bias.shape)

    return y, backward


def _split_heads(rows: Array, batch: int, groups: int, each: int) -> Array:
    n, width = rows.shape
    heads = rows.reshape(batch, n // batch, groups, each, width // (groups * each))  # [b·t,h·d] → [b,t,g,h/g,d]
    return np.moveaxis(heads, 1, 3)  # [b,g,h/g,t,d]


def _join_heads(x: Array) -> Array:
    batch, groups, each, t, d = x.shape
    joined: Array = np.moveaxis(x, 3, 1).reshape(batch * t, groups * each * d)  # [b,g,h/g,t,d] → [b·t,h·d]
    return joined


def _group(bias: Array, groups: int) -> Array:
    batch, heads, t, s = bias.shape
    groups = min(groups, heads)  # 1 where the heads share the bias
    return bias.reshape(batch, groups, heads // groups, t, s)  # [b,h,t,s] → [b,g,h/g,t,s]


def _corner(bias: Array, sequence: slice, t: int, s: int) -> tuple[slice, ...]:
    """The part of a broadcastable bias [b,h,t,s] that belongs to some sequences of t queries and s keys."""
    parts = (sequence, slice(None), slice(t), slice(s))
    return tuple(slice(None) if size == 1 else part for size, part in zip(bias.shape, parts, strict=True))


def sum_to_shape(x: Array, shape: tuple[int, ...]) -> Array:
    """Sum over the axes along which an array of this shape was broadcast: broadcasting's own pullback."""
    if x.shape == shape:
        return x
    x = x.sum(axis=tuple(range(x.ndim - len(shape))))
    broadcast = tuple(axis for axis, size in enumerate(shape) if size == 1 and x.shape[axis] != 1)
    return np.asarray(x.sum(axis=broadcast, keepdims=True))
