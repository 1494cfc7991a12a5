"""Initial values are drawn from the Generator alone, and zeros stand for values that a file will bring."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npora.nn.init import Unset, default_rng, kaiming_uniform, normal


def test_a_generator_is_itself_and_a_seed_is_0_unless_given() -> None:
    rng, unset = np.random.default_rng(5), Unset()
    assert default_rng(rng) is rng and default_rng(unset) is unset

    def first(seed: int | None) -> float:
        drawn = default_rng(seed)
        assert isinstance(drawn, np.random.Generator)
        return drawn.random()

    assert first(None) == first(0) == np.random.default_rng(0).random()
    assert first(7) == np.random.default_rng(7).random()


def test_what_is_drawn_has_its_spread() -> None:
    z = np.random.default_rng(3).standard_normal((2, 5))
    np.testing.assert_array_equal(normal(np.random.default_rng(3), (2, 5), 0.02, np.float64), z * 0.02, strict=True)
    bound = 1 / math.sqrt(5)
    u = np.random.default_rng(3).random((2, 5)) * 2 * bound - bound
    drawn = kaiming_uniform(np.random.default_rng(3), (2, 5), np.float64)
    np.testing.assert_allclose(drawn, u, rtol=0, atol=1e-15)
    assert kaiming_uniform(np.random.default_rng(3), (2, 0)).shape == (2, 0)
    assert kaiming_uniform(np.random.default_rng(3), (2, 5)).dtype == np.float32


def test_unset_values_are_zeros_as_many_as_a_file_may_ask_for() -> None:
    rng = Unset(numbers=16, arrays=2, what="a file of 16 numbers")
    assert not normal(rng, (2, 5), 1.0).any() and not kaiming_uniform(rng, (2, 3)).any()
    for numbers, arrays, shape in ((16, 2, (17,)), (16, 1, (2, 3))):
        rng = Unset(numbers, arrays, "a file of 16 numbers")
        if arrays == 1:
            rng.zeros((2, 5), np.float32)
        with pytest.raises(ValueError, match="more, by far, than a file of 16 numbers"):
            rng.zeros(shape, np.float32)
    with pytest.raises(ValueError, match="cannot have the shape"):
        rng.zeros((2, -1), np.float32)
    rng = Unset(numbers=16)
    rng.zeros((2, 5), np.float32)
    with pytest.raises(ValueError, match="more, by far"):
        rng.zeros((7,), np.float32)
