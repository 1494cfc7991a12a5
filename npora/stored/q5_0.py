"""Q5_0: five bits a number, and a step for each 32."""

from __future__ import annotations

import numpy as np

from npora.stored.blocks import Array, Blocked, Terms
from npora.stored.nibbles import fifth_bits, half, nibbles


class Q5_0(Blocked):
    """w = d (q − 16),  d a float16 for each 32 numbers of a row,  q in 0 … 31.    22 bytes for 32 numbers

    A block is d, the fifth bits of all q in 4 bytes, and their other four in 16 bytes as those of Q4_0.
    """

    form, block, block_bytes = "Q5_0", 32, 22

    @classmethod
    def terms(cls, blocks: Array) -> Terms:
        q = nibbles(blocks[..., None, 6:])  # [...,1,32]
        q |= fifth_bits(blocks[..., None, 2:6])
        return Terms(q.view(np.int8) - np.int8(16), half(blocks[..., :2]))
