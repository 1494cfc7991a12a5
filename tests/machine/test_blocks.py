"""Blocks of a matrix are all of it, and a product over leading axes is one product."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.machine import blocks
from npora.nn.activation import gelu
from npora.nn.linear import matmul
from npora.nn.norm import normalize, rms_normalize


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
