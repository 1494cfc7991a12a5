"""float16 is widened exactly, and rounding to it is NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from npora.stored import Float16


@pytest.mark.parametrize("some", [slice(0, 0x7C00), slice(0x8000, 0xFC00), slice(None)])
def test_every_one_of_its_numbers_is_widened_to_the_bit(some: slice) -> None:
    """The finite ones by moving their digits, and where there are inf and nan as NumPy does."""
    bits = np.arange(1 << 16, dtype=np.uint16)[some].view(np.float16)
    found, expected = Float16(bits)[:], bits.astype(np.float32)
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32), strict=True)


def test_it_rounds_as_numpy_does_and_refuses_what_is_beyond_its_numbers() -> None:
    x = np.random.default_rng(0).standard_normal(70_000).astype(np.float32)
    np.testing.assert_array_equal(Float16.rounded(x).bits, x.astype(np.float16), strict=True)
    x[69_999] = 65_520  # the least that rounds to infinity
    with pytest.raises(ValueError, match="no number near 65520: its largest is 65504"):
        Float16.rounded(x)
    assert Float16.exactly(x) is None and Float16.exactly(np.float32([0.1])) is None
    narrow = Float16.exactly(np.float32([0.5, np.inf]))
    assert narrow is not None and narrow.bits.tolist() == [0.5, np.inf]


def test_other_bits_are_refused() -> None:
    with pytest.raises(TypeError, match="an array of float16; got uint16"):
        Float16(np.zeros((2, 2), np.uint16))
