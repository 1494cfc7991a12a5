"""The block formats of GGUF, each against a loop over single numbers and bits."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest

from npora.machine.product import product
from npora.stored import Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, Blocked

Numbers = list[float]


def f16(block: bytes, at: int) -> float:
    return float(struct.unpack_from("<e", block, at)[0])


def four(block: bytes, start: int, k: int) -> int:
    """Number k of 32 in 16 bytes."""
    return block[start + k] & 15 if k < 16 else block[start + k - 16] >> 4


def fifth(block: bytes, start: int, k: int) -> int:
    return (block[start + k // 8] >> k % 8 & 1) * 16


def sixes(block: bytes, j: int) -> tuple[int, int]:
    s = block[4:16]
    if j < 4:
        return s[j] & 63, s[j + 4] & 63
    return s[j + 4] & 15 | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4


def kth(block: bytes, start: int, k: int) -> int:
    """Number k of 256 in 128 bytes, 64 at a time."""
    byte = block[start + k // 64 * 32 + k % 32]
    return byte >> 4 if k % 64 >= 32 else byte & 15


def q8_0(block: bytes) -> Numbers:
    return [f16(block, 0) * (byte - 256 * (byte > 127)) for byte in block[2:]]


def q4_0(block: bytes) -> Numbers:
    return [f16(block, 0) * (four(block, 2, k) - 8) for k in range(32)]


def q4_1(block: bytes) -> Numbers:
    return [f16(block, 0) * four(block, 4, k) + f16(block, 2) for k in range(32)]


def q5_0(block: bytes) -> Numbers:
    return [f16(block, 0) * (four(block, 6, k) + fifth(block, 2, k) - 16) for k in range(32)]


def q5_1(block: bytes) -> Numbers:
    return [f16(block, 0) * (four(block, 8, k) + fifth(block, 4, k)) + f16(block, 2) for k in range(32)]


def q4_k(block: bytes) -> Numbers:
    scales = [sixes(block, k // 32) for k in range(256)]
    return [f16(block, 0) * s * kth(block, 16, k) - f16(block, 2) * m for k, (s, m) in enumerate(scales)]


def q5_k(block: bytes) -> Numbers:
    def q(k: int) -> int:
        return kth(block, 48, k) + 16 * (block[16 + k % 32] >> k // 32 & 1)

    scales = [sixes(block, k // 32) for k in range(256)]
    return [f16(block, 0) * s * q(k) - f16(block, 2) * m for k, (s, m) in enumerate(scales)]


def q6_k(block: bytes) -> Numbers:
    numbers = []
    for k in range(256):
        half, place = divmod(k, 128)
        low = block[64 * half + place % 64]
        q = (low >> 4 if place >= 64 else low & 15) + 16 * (block[128 + 32 * half + k % 32] >> 2 * (place // 32) & 3)
        s = block[192 + k // 16]
        numbers.append(f16(block, 208) * (s - 256 * (s > 127)) * (q - 32))
    return numbers


# Each format with its loop, and where its float16 stand.
FORMATS: list[tuple[type[Blocked], Callable[[bytes], Numbers], tuple[int, ...]]] = [
    (Q8_0, q8_0, (0,)), (Q4_0, q4_0, (0,)), (Q4_1, q4_1, (0, 2)), (Q5_0, q5_0, (0,)), (Q5_1, q5_1, (0, 2)),
    (Q4_K, q4_k, (0, 2)), (Q5_K, q5_k, (0, 2)), (Q6_K, q6_k, (208,)),
]  # fmt: skip


def drawn(form: type[Blocked], halves: tuple[int, ...], *lead: int) -> np.ndarray:
    """Random blocks whose float16 are finite."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (*lead, form.block_bytes), dtype=np.uint8)
    for at in halves:
        blocks[..., at : at + 2] = rng.standard_normal((*lead, 1)).astype("<f2").view(np.uint8)
    return blocks


@pytest.mark.parametrize(("form", "loop", "halves"), FORMATS, ids=[form.__name__ for form, _, _ in FORMATS])
def test_blocks_are_unpacked_as_a_loop_unpacks_them(
    form: type[Blocked], loop: Callable[[bytes], Numbers], halves: tuple[int, ...]
) -> None:
    blocks = drawn(form, halves, 2, 3)
    before = blocks.copy()
    W = form(blocks.reshape(2, -1), (2, 3 * form.block))
    found = W[:].reshape(2, 3, form.block)
    expected = np.array([[loop(block.tobytes()) for block in row] for row in blocks])
    assert found.dtype == np.float32 and found.shape == (2, 3, form.block) and np.array_equal(blocks, before)
    # Three products and a difference at most, each rounded once.
    np.testing.assert_allclose(found, expected, rtol=0, atol=8 * 2.0**-24 * np.abs(expected).max())
    assert np.array_equal(W[1:, form.block :], found[1:, 1:].reshape(1, -1)) and W.bits.nbytes == blocks.nbytes
    assert np.array_equal(W.T[:, 0], found[0].reshape(-1))


@pytest.mark.parametrize(("form", "loop", "halves"), FORMATS, ids=[form.__name__ for form, _, _ in FORMATS])
def test_a_row_times_blocks_is_the_product_with_their_floats(
    form: type[Blocked], loop: Callable[[bytes], Numbers], halves: tuple[int, ...]
) -> None:
    """To the rounding of sums of d q and of m: their parts are some hundred times as large as what is left."""
    i = 2 * form.block + 5
    W = form(drawn(form, halves, 7, 3).reshape(7, -1), (7, i))
    for dtype in (np.float32, np.float64):
        x = np.random.default_rng(1).standard_normal((1, i)).astype(dtype)
        y = product(x, W.T)
        expected = x.astype(np.float64) @ W[:].T.astype(np.float64)
        assert y.dtype == dtype and y.shape == (1, 7)
        np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    for columns in (slice(form.block, i), slice(3, i - 4)):  # whole blocks, and what is none
        found, part = W.of_turned_row(x[:, columns], slice(1, 6), columns), W[1:6, columns]
        np.testing.assert_allclose(found, x[:, columns] @ part.T, rtol=0, atol=1e-5 * np.abs(expected).max())
