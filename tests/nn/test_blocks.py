"""Blocks of rows give what the plain form gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.nn import blocks
from npora.nn.activation import gelu
from npora.nn.linear import matmul
from npora.nn.norm import normalize, rms_normalize


def draw(*shape: int) -> Any:
    x = np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("shape", [(7, 301, 64), (0, 5), (5, 0), (3,), (2, blocks.BLOCK + 1), (blocks.BLOCK + 1, 1)])
def test_blocks_give_the_bits_of_the_function_itself(shape: tuple[int, ...]) -> None:
    x = draw(*shape)
    y, sums = np.full(shape, np.nan, np.float32), np.full((*shape[:-1], 1), np.nan, np.float32)
    calls = []

    def function(x: Any, y: Any, sums: Any) -> None:
        calls.append(x.shape)
        np.exp(x, out=y)
        sums[...] = x.sum(axis=-1, keepdims=True)

    blocks.in_blocks(function, x, y, sums)
    assert y.tobytes() == np.exp(x).tobytes()
    assert sums.tobytes() == x.sum(axis=-1, keepdims=True).tobytes()
    rows = max(blocks.BLOCK // max(shape[-1], 1), 1)
    assert calls == [] or max(n for n, _ in calls) <= rows
    assert sum(n for n, _ in calls) == np.prod(shape[:-1])


def test_a_number_is_a_row_of_its_own() -> None:
    x, y = np.array(2.0), np.array(0.0)
    blocks.in_blocks(lambda x, y: np.exp(x, out=y), x, y)
    assert y == np.exp(2.0)


def test_matmul_is_one_product_over_all_leading_axes() -> None:
    rng = np.random.default_rng(3)
    x, W = (rng.integers(-8, 9, shape).astype(np.float32) for shape in ((3, 5, 40), (40, 12)))  # exact in any order
    assert np.array_equal(matmul(x, W), x @ W)
    assert matmul(x[:, :0], W).shape == (3, 0, 12)


def test_what_is_to_be_filled_has_the_type_that_arithmetic_gives() -> None:
    x, number = draw(2, 3), np.ones(3, dtype=np.complex128)
    assert blocks.empty(x).dtype == np.float32 and blocks.empty(x, number).dtype == np.complex128
    assert blocks.empty(x, x.astype(np.float64)).dtype == np.float64
    assert blocks.empty(x, width=1).shape == (2, 1) and blocks.empty(x).shape == (2, 3)
    for function in (normalize, rms_normalize):
        whole = np.arange(1, 11).reshape(2, 5)
        np.testing.assert_allclose(function(whole, 1e-5)[0], function(whole.astype(float), 1e-5)[0], rtol=1e-6)
    np.testing.assert_allclose(gelu(np.arange(3))[0], [0, 0.841345, 1.954500], atol=1e-6)
