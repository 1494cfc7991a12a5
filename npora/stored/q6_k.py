"""Q6_K: six bits a number, and a step of a byte for each 16."""

from __future__ import annotations

import numpy as np

from npora.stored.blocks import Array, Blocked, Terms
from npora.stored.nibbles import half, nibbles


class Q6_K(Blocked):
    """w = (d s) (q − 32),  d a float16 for 256 numbers of a row,  s in −128 … 127 for each 16 of them,  q in 0 … 63.
    210 bytes for 256 numbers

    A block is 128 bytes with four bits of each q, 64 bytes with the two above, the 16 s, and d. Of each 64 of the first
    the lower halves are 64 numbers' and the upper ones those of the next 64; of each 32 of the others the bits 2 k and
    2 k + 1 are those of the k-th of four times 32 numbers.
    """

    form, block, block_bytes = "Q6_K", 256, 210

    @classmethod
    def terms(cls, blocks: Array) -> Terms:
        lead = blocks.shape[:-1]
        q = nibbles(blocks[..., :128].reshape(*lead, 2, 64)).reshape(*lead, 2, 4, 32)
        high = blocks[..., 128:192].reshape(*lead, 2, 1, 32)
        q |= (high >> np.arange(0, 8, 2, dtype=np.uint8)[:, None] & 3) << 4
        s = blocks[..., 192:208].view(np.int8) * half(blocks[..., 208:])  # [...,16]
        return Terms(q.view(np.int8).reshape(*lead, 16, 16) - np.int8(32), s)
