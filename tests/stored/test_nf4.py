"""NF4's levels are the published ones, and what is quantised to it is as near as the widest gap lets it be."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from npora.stored import NF4
from npora.stored.nf4 import LEVELS

# Of Dettmers et al. (2023), appendix E, and of their bitsandbytes.
PUBLISHED = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
]  # fmt: skip
OUTLIER = np.concatenate([np.full((2, 64), 3e38), np.full((2, 64), 1e-30), np.full((2, 9), 1e37)], axis=1)


def test_the_levels_are_the_published_ones() -> None:
    """Theirs were computed in float32, with an error of up to 2⁻²²."""
    assert LEVELS.dtype == np.float32 and (np.diff(LEVELS) > 0).all()
    np.testing.assert_allclose(LEVELS, PUBLISHED, rtol=0, atol=3e-7)


def constants_of(W: NF4) -> Any:
    """c of each block [o, blocks], by equation (1) of the page, from the bytes."""
    blocks = NF4.blocks_in(W.shape[1])
    k, (least, largest) = W.bits[:, 32 * blocks : 33 * blocks] / 255, W.bits[:, 33 * blocks :].copy().view("<f4").T
    with np.errstate(invalid="ignore"):
        ratio = np.where(largest > 0, least.astype(float) / largest, 1)
    return largest[:, None] * ratio[:, None] ** k


@given(x=arrays(np.float32, st.tuples(st.integers(0, 3), st.integers(0, 140)), elements=st.floats(-1e9, 1e9, width=32)))
@example(x=OUTLIER)
def test_a_number_is_within_half_a_gap_and_what_its_constant_misses(x: Any) -> None:
    W = NF4.quantized(x)
    blocks = NF4.blocks_in(x.shape[1])
    found, true = np.zeros((2, len(x), 64 * blocks))
    found[:, : x.shape[1]], true[:, : x.shape[1]] = np.asarray(W), x
    found, true = (each.reshape(len(x), blocks, 64) for each in (found, true))
    most, c = np.abs(true).max(axis=2), constants_of(W) if blocks else np.zeros((len(x), 0))
    gap = np.diff(PUBLISHED).max()
    bound = c * gap / 2 + np.abs(most - c) + 1e-6 * most  # roundings of float32
    assert W.shape == x.shape and (np.abs(found - true) <= bound[..., None]).all()
    # From a row's least constant to its largest is a factor of at most 2²⁴, in 255 even steps.
    largest = most.max(axis=1, keepdims=True, initial=0)
    near = most > largest * 2**-24
    assert (np.abs(np.log(c[near] / most[near])) <= 24 * np.log(2) / 510 + 1e-5).all()


def test_zeros_stay_and_each_blocks_largest_does_almost() -> None:
    x = np.random.default_rng(0).standard_normal((4, 256)).astype(np.float32)
    x[1, 64:128] = 0
    x[2, ::3] = 0
    W = np.asarray(NF4.quantized(x))
    assert not W[x == 0].any()
    largest, found = (np.abs(each.reshape(4, 4, 64)).max(axis=2) for each in (x, W))
    np.testing.assert_allclose(found, largest, rtol=0.005)


def test_a_rows_constants_go_from_its_least_but_zero_to_its_largest_and_over_a_factor_of_two_to_the_24th() -> None:
    x = np.zeros((2, 192), np.float32)
    x[0, [0, 64]] = 3, -0.5  # the third block is zeros
    x[1, [0, 64, 128]] = 1, 2**-20, 1e-9
    np.testing.assert_array_equal(NF4.quantized(x).bits[:, -8:].copy().view("<f4"), [[0.5, 3], [2**-24, 1]])


def test_of_two_levels_as_near_the_lower_is_taken() -> None:
    between = (LEVELS[1:] + LEVELS[:-1]) / 2
    x = np.concatenate([between, [1.0]])[None].astype(np.float32)
    np.testing.assert_array_equal(np.asarray(NF4.quantized(x))[0], np.append(LEVELS[:-1], 1))


def test_it_takes_about_four_bits_a_number_and_its_error_is_that_of_the_levels() -> None:
    x = np.random.default_rng(0).standard_normal((64, 2048)).astype(np.float32)
    W = NF4.quantized(x)
    assert W.nbytes == 64 * (1024 + 32 + 8) < 0.131 * x.nbytes
    error = np.sqrt(np.mean(np.square(np.asarray(W) - x)) / np.mean(x * x))
    assert 0.085 < error < 0.1  # 0.091 with constants that are not quantised: see the next line
    c = np.abs(x.reshape(64, 32, 64)).max(axis=2, keepdims=True)
    ideal = c * LEVELS[np.abs(x.reshape(64, 32, 64, 1) / c[..., None] - LEVELS).argmin(axis=3)]
    assert error < 1.01 * np.sqrt(np.mean(np.square(ideal.reshape(x.shape) - x)) / np.mean(x * x))


def test_a_rows_constants_are_its_blocks_least_and_largest() -> None:
    x = (0.1 * np.random.default_rng(0).standard_normal((3, 192))).astype(np.float32)
    x[2] = 0
    W = NF4.quantized(x)
    most = np.abs(x).reshape(3, 3, 64).max(axis=2)
    np.testing.assert_array_equal(
        W.bits[:, -8:].copy().view("<f4"), np.stack([most.min(axis=1), most.max(axis=1)], axis=1)
    )
    assert not np.signbit(np.asarray(W)[2]).any()  # zeros are not the least level of a constant of 0


def test_a_blocks_constant_is_the_nearest_of_the_rows_steps() -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((5, 40, 64)) * 10 ** rng.uniform(-6, -2, (5, 40, 1))).astype(np.float32)
    most = np.abs(x).max(axis=2)
    step = np.log(most.max(axis=1) / most.min(axis=1)) / 255
    away = np.abs(np.log(constants_of(NF4.quantized(x.reshape(5, -1))) / most)) / step[:, None]
    assert 0.47 < away.max() <= 0.5 + 1e-3  # of 200 blocks; roundings of float32
