"""Q5_K: five bits a number, and for each 32 a step and a least one of six bits each."""

from __future__ import annotations

import numpy as np

from npora.stored.blocks import Array, Blocked, Terms
from npora.stored.nibbles import nibbles
from npora.stored.q4_k import scaled


class Q5_K(Blocked):
    """w = (d s) q − (e m), as in Q4_K with q in 0 … 31.    176 bytes for 256 numbers

    A block is Q4_K's with 32 bytes before the last 128: bit k of byte j is the fifth bit of number 32 k + j.
    """

    form, block, block_bytes = "Q5_K", 256, 176

    @classmethod
    def terms(cls, blocks: Array) -> Terms:
        q = nibbles(blocks[..., 48:].reshape(*blocks.shape[:-1], 4, 32))  # [...,4,64]
        high = blocks[..., None, 16:48]  # [...,1,32]
        by_bit = q.reshape(*blocks.shape[:-1], 8, 32)
        by_bit |= (high >> np.arange(8, dtype=np.uint8)[:, None] & 1) << 4
        return scaled(q, blocks)
