"""Whole numbers of four and five bits, packed into bytes as GGUF's formats pack them."""

from __future__ import annotations

import numpy as np

from npora.stored.blocks import Array


def half(d: Array) -> Array:
    """The float16 in two bytes.    uint8 [...,2] → float32 [...,1]"""
    return d.view("<f2").astype(np.float32)


def nibbles(packed: Array) -> Array:
    """The lower halves of k bytes, and then the upper ones, 0 … 15.    uint8 [...,k] → uint8 [...,2k]

    The k bytes move as one element: a loop over so few of them costs more than what it does.
    """
    k = packed.shape[-1]
    together = np.dtype(f"V{k}")
    packed = np.ascontiguousarray(packed.view(together)).view(np.uint8)
    q = np.empty((*packed.shape[:-1], 2), together)
    q[..., :1], q[..., 1:] = (packed & 15).view(together), (packed >> 4).view(together)
    return q.view(np.uint8)


def fifth_bits(packed: Array) -> Array:
    """16 where a bit is one, and 0 where it is none, the lowest bit first.    uint8 [...,k] → uint8 [...,8k]"""
    bits = np.unpackbits(packed, axis=-1, bitorder="little")
    bits <<= 4
    return bits
