"""int8: one byte a number and a step for each 32, in the layout of GGUF's Q8_0."""

from __future__ import annotations

import numpy as np

from npora.stored.blocks import Array, Blocked, Terms
from npora.stored.nibbles import half

_LARGEST = np.float32(np.finfo(np.float16).max)


class Q8_0(Blocked):
    """w = d q,  d a float16 for each 32 numbers of a row,  q whole, −128 … 127.    34 bytes for 32 numbers

    To quantise w, with a = max |w| of the block:

        d = a / 127, as the nearest float16      (1)   where that is so small that a ≥ 127.5 d, as the next larger one
        q = w / d, to the nearest                (2)   so that |w − d q| ≤ d / 2

    The layout is that of ggml's Q8_0, whose quantiser divides by d before that is rounded, and may miss d / 2 a little.
    """

    form, block, block_bytes = "int8", 32, 34

    @classmethod
    def terms(cls, blocks: Array) -> Terms:
        return Terms(blocks[..., None, 2:].view(np.int8), half(blocks[..., :2]))

    @classmethod
    def pack(cls, blocks: Array) -> Array:
        a = np.abs(blocks).max(axis=-1, keepdims=True)
        if (beyond := a > 127 * _LARGEST).any():
            raise ValueError(f"int8 has no number near {a[beyond][0]:.3g}: its largest is {127 * _LARGEST:.3g}")
        d = (a / np.float32(127)).astype(np.float16)  # (1)
        d = np.where(a >= np.float32(127.5) * d, np.nextafter(d, np.float16(np.inf)), d)
        step = d.astype(np.float32)
        q = np.rint(np.divide(blocks, step, out=np.zeros_like(blocks), where=step > 0))  # (2)
        return np.concatenate([d.astype("<f2").view(np.uint8), q.astype(np.int8).view(np.uint8)], axis=-1)
