"""Q4_K: half a byte a number, and for each 32 a step and a least one of six bits each."""

from __future__ import annotations

import numpy as np

from npora.stored.blocks import Array, Blocked, Terms
from npora.stored.nibbles import half, nibbles


class Q4_K(Blocked):
    """w = (d s) q − (e m),  d and e a float16 each for 256 numbers of a row,  s and m in 0 … 63 for each 32 of them,
    q in 0 … 15.    144 bytes for 256 numbers

    A block is d, e, the eight s and m in 12 bytes, and 128 bytes: of each 32 of these the lower halves are 32 numbers'
    q, and the upper ones those of the next 32.
    """

    form, block, block_bytes = "Q4_K", 256, 144

    @classmethod
    def terms(cls, blocks: Array) -> Terms:
        return scaled(nibbles(blocks[..., 16:].reshape(*blocks.shape[:-1], 4, 32)), blocks)  # [...,4,64]


def scaled(q: Array, blocks: Array) -> Terms:
    """(d s) q − (e m), where blocks begin as those of Q4_K do.    q [...,4,64] → [...,8,32]"""
    s, m = _sixes(blocks[..., 4:16])
    s *= half(blocks[..., :2])
    m *= -half(blocks[..., 2:4])
    return Terms(q.reshape(*s.shape, 32), s, m)


def _sixes(packed: Array) -> tuple[Array, Array]:
    """s and m, 0 … 63.    uint8 [...,12] → float32 [...,8] each

    The first four of each are the lower six bits of a byte, of bytes 0 … 3 and 4 … 7. Of the others the lower four bits
    are halves of bytes 8 … 11, s the lower and m the upper ones, and the two above stand above the first four.
    """
    a, b, c = packed[..., :4], packed[..., 4:8], packed[..., 8:]
    s = np.concatenate([a & 63, (c & 15) | (a >> 6 << 4)], axis=-1)
    m = np.concatenate([b & 63, (c >> 4) | (b >> 6 << 4)], axis=-1)
    return s.astype(np.float32), m.astype(np.float32)
