"""Q5_1: five bits a number, and for each 32 a step and the least of them."""

from __future__ import annotations

from npora.stored.blocks import Array, Blocked, Terms
from npora.stored.nibbles import fifth_bits, half, nibbles


class Q5_1(Blocked):
    """w = d q + m,  d and m a float16 each for 32 numbers of a row,  q in 0 … 31.    24 bytes for 32 numbers

    A block is d, m, the fifth bits of all q in 4 bytes, and their other four in 16 bytes as those of Q4_0.
    """

    form, block, block_bytes = "Q5_1", 32, 24

    @classmethod
    def terms(cls, blocks: Array) -> Terms:
        q = nibbles(blocks[..., None, 8:])  # [...,1,32]
        q |= fifth_bits(blocks[..., None, 4:8])
        return Terms(q, half(blocks[..., :2]), half(blocks[..., 2:4]))
