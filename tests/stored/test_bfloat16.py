"""bfloat16 is float32's upper half, and rounding to it is to the nearest."""

from __future__ import annotations

import numpy as np
import pytest

from npora.stored import BFloat16


def test_every_one_of_its_numbers_is_widened_and_rounded_back() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    every = BFloat16(bits)
    floats = np.asarray(every)
    assert floats.dtype == np.float32 and not (floats.view(np.uint32) & 0xFFFF).any()
    quiet = np.where(np.isnan(floats), bits | 0x40, bits)
    np.testing.assert_array_equal(BFloat16.rounded(floats).bits, quiet, strict=True)


@pytest.mark.parametrize("lower", [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
def test_it_rounds_to_the_nearest_and_of_two_as_near_to_the_even_one(lower: int) -> None:
    upper = np.append(np.arange(1 << 16), [0x3F81, 0xC002])  # more than are rounded at a time
    x = (upper << 16 | lower).astype(np.uint32).view(np.float32)
    finite = np.isfinite((upper << 16).astype(np.uint32).view(np.float32))
    is_up = lower > 0x8000 or (lower == 0x8000) & (upper % 2 == 1)
    np.testing.assert_array_equal(BFloat16.rounded(x).bits[finite], (upper + is_up)[finite])
    np.testing.assert_array_equal(np.isnan(BFloat16.rounded(x)), np.isnan(x))


def test_numbers_that_it_has_exactly_are_kept_and_others_are_none() -> None:
    narrow = BFloat16.exactly(np.float32([0.5, -3.0]))
    assert narrow is not None and narrow[:].tolist() == [0.5, -3.0]
    assert BFloat16.exactly(np.float32([0.5, 0.1])) is None


def test_other_bits_are_refused() -> None:
    with pytest.raises(TypeError, match="an array of uint16; got int32"):
        BFloat16(np.zeros((2, 2), np.int32))
