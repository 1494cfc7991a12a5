"""bfloat16: the upper half of a float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from npora.machine.blocks import BLOCK
from npora.machine.stored import Stored

Array = npt.NDArray[Any]


class BFloat16(Stored):
    """A BFloat16 is an array in half the memory of float32: sign, exponent, and seven of float32's 23 binary digits.

    To widen a number is to put zeros in the place of the other digits, so it is exact.

    bits : uint16, the upper halves. They may be a read-only map of a file; they are read-only from now on
    """

    form, kind = "bfloat16", "BF16"

    def __init__(self, bits: Array) -> None:
        if bits.dtype != np.uint16:
            raise TypeError(f"the bits of bfloat16 are an array of uint16; got {bits.dtype}")
        bits.flags.writeable = False
        self.bits, self.shape = bits, bits.shape

    def __getitem__(self, index: Any) -> Array:
        wide = np.array(self.bits[index], np.uint32)
        wide <<= 16
        return wide.view(np.float32)

    @classmethod
    def rounded(cls, x: npt.ArrayLike) -> BFloat16:
        """Round each number to the nearest that bfloat16 has; of two as near to the even one, as torch does."""
        x = np.asarray(x)
        flat, bits = x.reshape(-1), np.empty(x.size, np.uint16)
        for start in range(0, x.size, BLOCK):
            piece = flat[start : start + BLOCK].astype(np.float32)
            wide = piece.view(np.uint32)
            upper = wide >> 16
            nearest = (wide + 0x7FFF + (upper & 1)) >> 16
            bits[start : start + BLOCK] = np.where(np.isnan(piece), upper | 0x40, nearest)  # a nan stays one
        return cls(bits.reshape(x.shape))

    @classmethod
    def exactly(cls, x: Array) -> BFloat16 | None:
        """Return the same numbers where bfloat16 has all of them, and None where it has not."""
        narrow = cls.rounded(x)
        return narrow if np.array_equal(narrow[:], x) else None
