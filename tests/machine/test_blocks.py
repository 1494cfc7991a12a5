"""Blocks of rows give what the plain form gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.machine import blocks
from npora.nn.activation import gelu
from npora.nn.linear import matmul
from npora.nn.norm import normalize, rms_normalize


def draw(*shape: int) -> Any:
    x = np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)
    x.flags.writeable = False
    return x


@pytest.mark.parametrize("shape", [(7, 301, 64), (0, 5), (5, 0), (3,), (2, blocks.BLOCK + 1), (blocks.BLOCK + 1, 1)])
def test_blocks_give_the_bits_of_the_function_itself(shape: tuple[int, ...]) -> None:
    x, other = draw(*shape), draw(*shape[:-1], 2) if len(shape) > 1 else draw(2)
    calls = []

    def formula(x: Any, other: Any) -> tuple[Any, Any]:
        calls.append(x.shape)
        return np.exp(x) + other.astype(np.float64)[..., :1], x.sum(axis=-1, keepdims=True)

    y, sums = blocks.by_rows(formula, x, other)
    assert sum(int(np.prod(called[:-1])) for called in calls) == np.prod(shape[:-1])
    assert max(int(np.prod(called[:-1])) for called in calls) <= max(blocks.BLOCK // max(shape[-1], 2), 1)
    expected = formula(x, other)
    for found, right in zip((y, sums), expected, strict=True):
        assert found.shape == right.shape and found.dtype == right.dtype and found.tobytes() == right.tobytes()
    alone = blocks.by_rows(lambda x: formula(x, x[..., :1])[0], x) if shape[-1] else x
    assert alone.shape == shape


def test_a_number_is_a_row_of_its_own() -> None:
    assert blocks.by_rows(np.exp, np.array(2.0)) == np.exp(2.0)


def test_matmul_is_one_product_over_all_leading_axes() -> None:
    rng = np.random.default_rng(3)
    x, W = (rng.integers(-8, 9, shape).astype(np.float32) for shape in ((3, 5, 40), (40, 12)))  # exact in any order
    assert np.array_equal(matmul(x, W), x @ W)
    assert matmul(x[:, :0], W).shape == (3, 0, 12)


def test_whole_numbers_are_normalised_and_activated_as_the_floats_that_they_are() -> None:
    for function in (normalize, rms_normalize):
        whole = np.arange(1, 11).reshape(2, 5)
        np.testing.assert_allclose(function(whole, 1e-5)[0], function(whole.astype(float), 1e-5)[0], rtol=1e-6)
    np.testing.assert_allclose(gelu(np.arange(3))[0], [0, 0.841345, 1.954500], atol=1e-6)


@pytest.mark.parametrize(
    "shape", [(7, 5), (301, 700), (700, 301), (3, blocks.BLOCK + 1), (blocks.BLOCK + 1, 3), (0, 4), (4, 0)]
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_the_blocks_of_a_matrix_are_its_elements_in_their_order_in_memory(shape: tuple[int, int], order: Any) -> None:
    matrix = np.arange(np.prod(shape)).reshape(shape, order=order)
    found = [matrix[at].ravel(order) for at in blocks.blocks_of(matrix)]
    assert np.array_equal(np.concatenate([*found, []]), np.arange(matrix.size))
    assert all(
        part.size <= max(blocks.BLOCK, min(shape), 1) or 1 in matrix[at].shape
        for part, at in zip(found, blocks.blocks_of(matrix), strict=True)
    )
