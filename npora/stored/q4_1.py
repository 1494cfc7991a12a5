"""Q4_1: half a byte a number, and for each 32 a step and the least of them."""

from __future__ import annotations

from npora.stored.blocks import Array, Blocked
from npora.stored.nibbles import half, nibbles, whole


class Q4_1(Blocked):
    """w = d q + m,  d and m a float16 each for 32 numbers of a row,  q in 0 … 15.    20 bytes for 32 numbers

    A block is d, m, and 16 bytes as those of Q4_0.
    """

    form, block, block_bytes = "Q4_1", 32, 20

    @classmethod
    def unpack(cls, blocks: Array) -> Array:
        w = whole(nibbles(blocks[..., 4:]))  # [...,32]
        w *= half(blocks[..., :2])
        w += half(blocks[..., 2:4])
        return w
