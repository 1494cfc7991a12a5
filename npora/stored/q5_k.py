"""Q5_K: five bits a number, and for each 32 a step and a least one of six bits each."""

from __future__ import annotations

from npora.stored.blocks import Array, Blocked
from npora.stored.nibbles import nibbles
from npora.stored.q4_k import scaled


class Q5_K(Blocked):
    """w = (d s) q − (e m), as in Q4_K with q in 0 … 31.    176 bytes for 256 numbers

    A block is Q4_K's with 32 bytes before the last 128: bit k of byte j is the fifth bit of number 32 k + j.
    """

    form, block, block_bytes = "Q5_K", 256, 176

    @classmethod
    def unpack(cls, blocks: Array) -> Array:
        q = nibbles(blocks[..., 48:].reshape(*blocks.shape[:-1], 4, 32))  # [...,4,2,32]
        high = blocks[..., 16:48]
        for k in range(8):
            q[..., k // 2, k % 2, :] += (high >> k & 1) << 4
        return scaled(q, blocks)
