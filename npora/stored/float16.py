"""float16: half the memory of float32, and half precision."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from npora.machine.blocks import BLOCK
from npora.machine.stored import Stored

Array = npt.NDArray[Any]
_INFINITE = np.uint16(0x7C00)  # the exponent of inf and nan
_MOVED = np.int32(-0x70000001)  # all bits but the three between the sign and where float16's exponent begins
_SCALE = np.float32(2.0**112)  # 127 − 15, by which the exponents' biases differ


class Float16(Stored):
    """A Float16 is an array in half the memory of float32: sign, five binary digits of exponent, ten of the number.

    To widen a number is to move its digits to where float32 has them and to multiply by 2¹¹², so it is exact, for the
    smallest numbers too; NumPy's own way takes some six times as long. It is taken where there is inf or nan.

    bits : float16. They may be a read-only map of a file; they are read-only from now on
    """

    form, kind = "float16", "F16"

    def __init__(self, bits: Array) -> None:
        if bits.dtype != np.float16:
            raise TypeError(f"the bits of float16 are an array of float16; got {bits.dtype}")
        bits.flags.writeable = False
        self.bits, self.shape = bits, bits.shape

    def __getitem__(self, index: Any) -> Array:
        part = self.bits[index]
        if (part.view(np.uint16) & _INFINITE).max(initial=0) == _INFINITE:
            return np.asarray(part, np.float32)
        wide = np.array(part.view(np.int16), np.int32)  # the sign in all of the upper half
        wide <<= 13
        wide &= _MOVED
        floats: Array = wide.view(np.float32)
        floats *= _SCALE
        return floats

    @classmethod
    def rounded(cls, x: npt.ArrayLike) -> Float16:
        """Round each number to the nearest that float16 has, and of two as near to the even one.

        Raises
        ------
        ValueError: a finite number beyond 65,504, the largest that it has.
        """
        x = np.asarray(x)
        flat, bits = x.reshape(-1), np.empty(x.size, np.float16)
        for start in range(0, x.size, BLOCK):
            piece = flat[start : start + BLOCK]
            with np.errstate(over="ignore"):
                bits[start : start + BLOCK] = piece
            if (lost := np.isinf(bits[start : start + BLOCK]) & np.isfinite(piece)).any():
                raise ValueError(f"float16 has no number near {piece[lost][0]:.6g}: its largest is 65504")
        return cls(bits.reshape(x.shape))

    @classmethod
    def exactly(cls, x: Array) -> Float16 | None:
        """Return the same numbers where float16 has all of them, and None where it has not."""
        with np.errstate(over="ignore"):
            narrow = cls(np.asarray(x).astype(np.float16))
        return narrow if np.array_equal(narrow[:], x) else None
