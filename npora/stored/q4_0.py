"""Q4_0: half a byte a number, and a step for each 32."""

from __future__ import annotations

import numpy as np

from npora.stored.blocks import Array, Blocked, Terms
from npora.stored.nibbles import half, nibbles


class Q4_0(Blocked):
    """w = d (q − 8),  d a float16 for each 32 numbers of a row,  q in 0 … 15.    18 bytes for 32 numbers

    A block is d, and 16 bytes: their lower halves are the first 16 numbers' q, the upper ones the others'.
    """

    form, block, block_bytes = "Q4_0", 32, 18

    @classmethod
    def terms(cls, blocks: Array) -> Terms:
        q = nibbles(blocks[..., None, 2:]).view(np.int8) - np.int8(8)  # [...,1,32]
        return Terms(q, half(blocks[..., :2]))
