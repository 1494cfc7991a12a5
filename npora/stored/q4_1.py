"""Q4_1: half a byte a number, and for each 32 a step and the least of them."""

from __future__ import annotations

from npora.stored.blocks import Array, Blocked, Terms
from npora.stored.nibbles import half, nibbles


class Q4_1(Blocked):
    """w = d q + m,  d and m a float16 each for 32 numbers of a row,  q in 0 … 15.    20 bytes for 32 numbers

    A block is d, m, and 16 bytes as those of Q4_0.
    """

    form, block, block_bytes = "Q4_1", 32, 20

    @classmethod
    def terms(cls, blocks: Array) -> Terms:
        return Terms(nibbles(blocks[..., None, 4:]), half(blocks[..., :2]), half(blocks[..., 2:4]))
