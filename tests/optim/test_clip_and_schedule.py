"""Clipping by the global norm, and the factors of the learning rate."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npora.nn import Parameter
from npora.optim import clip_grad_norm, get_schedule


def with_gradients(*gradients: list[float], dtype: type = np.float64) -> list[Parameter]:
    parameters = [Parameter(np.zeros(len(gradient), dtype=dtype)) for gradient in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = np.array(gradient, dtype=dtype)
    return parameters


def test_a_long_gradient_is_shortened_as_one_vector() -> None:
    parameters = [*with_gradients([3.0], [0.0, 4.0]), Parameter(np.zeros(2))]  # ‖(3, 0, 4)‖ = 5
    assert clip_grad_norm(parameters, 2.0) == 5.0
    scale = 2.0 / 5.000001
    np.testing.assert_allclose(parameters[0].grad, [3 * scale], rtol=1e-14)
    np.testing.assert_allclose(parameters[1].grad, [0.0, 4 * scale], rtol=1e-14)
    assert math.hypot(parameters[0].grad[0], parameters[1].grad[1]) <= 2.0


def test_a_short_gradient_keeps_its_bits() -> None:
    for limit in (6.0, math.inf):
        (parameter,) = with_gradients([3.0, 4.0])
        assert clip_grad_norm([parameter], limit) == 5.0
        assert parameter.grad.tolist() == [3.0, 4.0]


def test_the_norm_of_float32_gradients_neither_overflows_nor_loses_digits() -> None:
    (parameter,) = with_gradients([3e30, 4e30], dtype=np.float32)
    assert clip_grad_norm([parameter], 1.0) == pytest.approx(5e30, rel=1e-6)
    np.testing.assert_allclose(parameter.grad, [0.6, 0.8], rtol=1e-6)
    assert parameter.grad.dtype == np.float32


def test_a_gradient_that_is_not_finite_is_reported_and_left() -> None:
    (parameter,) = with_gradients([math.inf, 4.0])
    assert clip_grad_norm([parameter], 1.0) == math.inf
    assert parameter.grad.tolist() == [math.inf, 4.0]


def test_factors_at_the_edges_by_hand() -> None:
    # Two steps of warm-up, then eight: step 6 is half-way.
    linear, cosine = get_schedule("linear", 2, 10), get_schedule("cosine", 2, 10)
    assert [linear(step) for step in (0, 1, 2, 6, 9, 10)] == [0, 0.5, 1, 0.5, 0.125, 0]
    assert [cosine(step) for step in (0, 1, 2, 6)] == pytest.approx([0, 0.5, 1, 0.5], abs=1e-15)
    assert cosine(4) == pytest.approx(0.5 * (1 + math.sqrt(0.5)), rel=1e-15)
    assert cosine(10) == 0 and linear(11) == 0
    assert [get_schedule("constant", 2, 10)(step) for step in (0, 1, 2, 9)] == [1, 1, 1, 1]
    assert [get_schedule("constant_with_warmup", 2, 10)(step) for step in (1, 2, 9)] == [0.5, 1, 1]
    assert get_schedule("linear", 0, 4)(0) == 1


def test_an_unknown_schedule_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"constant, constant_with_warmup, linear, cosine, .*; got 'exponential'"):
        get_schedule("exponential", 0, 1)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_schedule_of_one_step_ends_at_zero(name: str) -> None:
    factor = get_schedule(name, 0, 1)
    assert (factor(0), factor(1)) == (1, 0)


@pytest.mark.parametrize("name", ["linear", "cosine", "constant_with_warmup"])
def test_a_schedule_that_is_all_warm_up_ends_at_the_whole_rate(name: str) -> None:
    factor = get_schedule(name, 4, 4)
    assert [factor(step) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]
