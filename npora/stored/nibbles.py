"""Whole numbers of four and five bits, packed into bytes as GGUF's formats pack them."""

from __future__ import annotations

import numpy as np

from npora.stored.blocks import Array


def half(d: Array) -> Array:
    """The float16 in two bytes.    uint8 [...,2] → float32 [...,1]"""
    return d.view("<f2").astype(np.float32)


def nibbles(packed: Array) -> Array:
    """The lower halves of k bytes, and then the upper ones, 0 … 15.    uint8 [...,k] → float32 [...,2,k]"""
    q = np.empty((*packed.shape[:-1], 2, packed.shape[-1]), np.float32)
    np.bitwise_and(packed, 15, out=q[..., 0, :])
    np.right_shift(packed, 4, out=q[..., 1, :])
    return q


def whole(q: Array) -> Array:
    """The last two axes as one."""
    return q.reshape(*q.shape[:-2], q.shape[-2] * q.shape[-1])


def fifth_bits(packed: Array) -> Array:
    """16 where a bit is one, and 0 where it is none, the lowest bit first.    uint8 [...,k] → uint8 [...,8k]"""
    bits = np.unpackbits(packed, axis=-1, bitorder="little")
    bits <<= 4
    return bits
