"""What is done to part of a head, to a window of rows and to all rows of a sequence, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npora.nn import Packing
from npora.nn import functional as F
from npora.nn.packing import mean_of_sequences


def test_a_rotation_of_the_first_features_of_each_head_leaves_the_others() -> None:
    x = np.random.default_rng(0).standard_normal((3, 2 * 7))
    turn = F.rotation(np.array([2, 0, 5]), F.frequencies(4, 100.0), np.float64)
    y, backward = F.rotary(x, turn, heads=2)
    heads, whole = x.reshape(3, 2, 7), F.rotary(x.reshape(3, 2, 7)[:, :, :4].reshape(3, 8), turn, heads=2)[0]
    np.testing.assert_array_equal(y.reshape(3, 2, 7)[:, :, 4:], heads[:, :, 4:])
    np.testing.assert_array_equal(y.reshape(3, 2, 7)[:, :, :4], whole.reshape(3, 2, 4))
    np.testing.assert_allclose(backward(y), x, rtol=0, atol=1e-15)
    with pytest.raises(ValueError, match="a turn of 3 positions for heads of 4 features was given for 3 rows of 14 "):
        F.rotary(x[:, :14], turn, heads=14)


def test_a_window_to_both_sides_by_hand() -> None:
    assert F.around(2)(5) == (3, 8) and F.around(0)(5) == (5, 6)
    with pytest.raises(ValueError, match="a window must reach 0 keys to each side or more; got -1"):
        F.around(-1)


def test_the_mean_of_a_sequence_is_of_its_rows_alone() -> None:
    x = np.array([[1.0, 8.0], [3.0, 2.0], [5.0, -1.0]])
    y, backward = mean_of_sequences(x, Packing.of_lengths([2, 1]))
    assert y.tolist() == [[2.0, 5.0], [5.0, -1.0]]
    assert backward(np.array([[4.0, 6.0], [7.0, 9.0]])).tolist() == [[2.0, 3.0], [2.0, 3.0], [7.0, 9.0]]
    with pytest.raises(ValueError, match="takes a packing without rows of nobody"):
        mean_of_sequences(x, Packing.spaced([1, 1], 2))
    with pytest.raises(ValueError, match="sequence"):
        mean_of_sequences(x, Packing.of_lengths([3, 0]))


def test_heads_may_have_one_feature() -> None:
    q, k = np.array([[0.0, 1.0], [2.0, 0.0]]), np.array([[1.0], [3.0]])
    y, _ = F.packed_attention(q, k, 10 * k, 2, Packing.of_lengths([2]))  # two heads share the one of the keys
    p = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-4))  # of the second key, for a query of 1 and of 2
    np.testing.assert_allclose(y, [[20, 10 + 20 * p[0]], [10 + 20 * p[1], 20]], rtol=1e-12)
