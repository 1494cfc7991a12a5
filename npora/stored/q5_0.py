"""Q5_0: five bits a number, and a step for each 32."""

from __future__ import annotations

import numpy as np

from npora.stored.blocks import Array, Blocked
from npora.stored.nibbles import fifth_bits, half, nibbles, whole


class Q5_0(Blocked):
    """w = d (q − 16),  d a float16 for each 32 numbers of a row,  q in 0 … 31.    22 bytes for 32 numbers

    A block is d, the fifth bits of all q in 4 bytes, and their other four in 16 bytes as those of Q4_0.
    """

    form, block, block_bytes = "Q5_0", 32, 22

    @classmethod
    def unpack(cls, blocks: Array) -> Array:
        w = whole(nibbles(blocks[..., 6:]))  # [...,32]
        w += fifth_bits(blocks[..., 2:6])
        w -= np.float32(16)
        w *= half(blocks[..., :2])
        return w
