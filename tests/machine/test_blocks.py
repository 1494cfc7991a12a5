"""Blocks give what the plain form gives, and a product over leading axes is one product."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora.machine import blocks
from npora.nn.activation import gelu
from npora.nn.linear import matmul
from npora.nn.norm import normalize, rms_normalize


@pytest.mark.parametrize("shape", [(7, 301, 64), (2, blocks.BLOCK + 1), (2 * blocks.BLOCK,), (3, 4), (0, 5), ()])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128, np.int64])
def test_blocks_give_the_bits_of_the_function_itself(shape: tuple[int, ...], dtype: Any) -> None:
    sizes = []

    def formula(x: Any) -> tuple[Any, Callable[[Any], Any]]:
        sizes.append(x.size)
        return np.exp(-x * x), lambda dy: -2.0 * x * dy

    x = np.asarray(3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)
    dy = np.asarray(x + x.dtype.type(1))
    x.flags.writeable = dy.flags.writeable = False
    (y, backward), (expected, back_expected) = blocks.in_blocks(formula)(x), formula(x)
    assert sizes.pop() == x.size == sum(sizes) and max(sizes) <= blocks.BLOCK
    for found, right in ((y, expected), (backward(dy), back_expected(dy))):
        assert found.shape == right.shape and found.dtype == right.dtype and found.tobytes() == right.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_what_is_overwritten_has_the_bits_of_the_function_itself(dtype: Any) -> None:
    x = np.random.default_rng(1).standard_normal((3, 7)).astype(dtype)
    expected = np.exp(x)
    y = blocks.overwritten(np.exp, x)
    assert y.dtype == dtype and y.tobytes() == expected.tobytes() and np.shares_memory(x, y)


def test_what_is_kept_is_not_x_itself() -> None:
    x, dy = np.random.default_rng(2).standard_normal((2, 3, blocks.BLOCK)).astype(np.float32)
    x = x.copy()  # its own memory, and no view
    expected = gelu(x)[1](dy)
    seen, (_, backward) = weakref.ref(x), gelu(x)
    del x
    assert seen() is None and backward(dy).tobytes() == expected.tobytes()


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


def test_a_long_column_is_cut_too() -> None:
    column = np.zeros((2 * blocks.BLOCK + 1, 1))
    assert [len(column[at]) for at in blocks.blocks_of(column)] == [blocks.BLOCK, blocks.BLOCK, 1]


def test_what_fits_a_block_keeps_its_axes() -> None:
    shapes = []

    def formula(x: Any) -> tuple[Any, Callable[[Any], Any]]:
        shapes.append(x.shape)
        return x, lambda dy: dy

    for shape in ((2, blocks.BLOCK // 2), (3, blocks.BLOCK // 2)):
        blocks.in_blocks(formula)(np.zeros(shape))
    assert shapes == [(2, blocks.BLOCK // 2), (blocks.BLOCK,), (blocks.BLOCK // 2,)]
