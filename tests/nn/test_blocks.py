"""Blocks of rows give what the plain form gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora.nn import blocks
from npora.nn.linear import matmul


def draw(*shape: int) -> Any:
    x = np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)
    x.flags.writeable = False
    return x


def test_by_rows_gives_the_bits_of_the_function_itself() -> None:
    x, y = draw(7, 301, 64), draw(7, 301, 64)
    found = blocks.by_rows(lambda x, y: (x * y, (x + y).sum(axis=-1, keepdims=True)), x, y)
    assert found[0].tobytes() == (x * y).tobytes()
    assert found[1].tobytes() == (x + y).sum(axis=-1, keepdims=True).tobytes()


@pytest.mark.parametrize("size", [0, 5, blocks.BLOCK, blocks.BLOCK + 1, 3 * blocks.BLOCK + 17])
def test_element_wise_gives_the_bits_of_the_function_itself(size: int) -> None:
    x = draw(size)
    assert blocks.element_wise(np.exp, x).tobytes() == np.exp(x).tobytes()
    two = blocks.element_wise(lambda x: (x + 1, 2 * x), x)
    assert [part.tobytes() for part in two] == [(x + 1).tobytes(), (2 * x).tobytes()]
    y, z = np.empty((2, size), np.float32)
    blocks.in_blocks(lambda x, y, z: (np.add(x, 1, out=y), np.exp(x, out=z)), x, y, z)
    assert [y.tobytes(), z.tobytes()] == [(x + 1).tobytes(), np.exp(x).tobytes()]


def test_matmul_is_one_product_over_all_leading_axes() -> None:
    rng = np.random.default_rng(3)
    x, W = (rng.integers(-8, 9, shape).astype(np.float32) for shape in ((3, 5, 40), (40, 12)))  # exact in any order
    assert np.array_equal(matmul(x, W), x @ W)
    assert matmul(x[:, :0], W).shape == (3, 0, 12)
