"""Update rules by hand, what they leave alone, and the symmetries that they keep."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.nn import Parameter
from npora.optim import SGD, Adam, AdamW, Optimizer

MAKERS: dict[str, Callable[[Any], Optimizer]] = {
    "SGD": lambda params: SGD(params, 0.1),
    "SGD, momentum": lambda params: SGD(params, 0.1, momentum=0.9, weight_decay=0.01),
    "SGD, Nesterov": lambda params: SGD(params, 0.1, momentum=0.9, nesterov=True),
    "SGD, dampened": lambda params: SGD(params, 0.1, 0.9, 0.3, 0.01, maximize=True),
    "Adam": lambda params: Adam(params, 0.1, weight_decay=0.01),
    "AdamW": lambda params: AdamW(params, 0.1, weight_decay=0.1),
    "AdamW, AMSGrad": lambda params: AdamW(params, 0.1, weight_decay=0.1, amsgrad=True, maximize=True),
}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def stepped(make: Callable[[Any], Optimizer], theta: Any, gradients: Any, dtype: Any = np.float64) -> Any:
    parameter = Parameter(np.array(theta, dtype=dtype))
    optimizer = make([parameter])
    for gradient in gradients:
        parameter.grad = np.array(gradient, dtype=dtype)
        optimizer.step()
    return parameter.data


def test_two_steps_of_sgd_by_hand() -> None:
    # lr 0.1, μ 0.5, λ 0.2; θ = 2, g = 3, then g = 1.
    # Step 1: g + λθ = 3.4 = m, θ = 2 − 0.34 = 1.66.  Step 2: g + λθ = 1.332, m = 1.7 + 1.332 = 3.032, θ = 1.3568.
    plain = stepped(lambda p: SGD(p, 0.1, momentum=0.5, weight_decay=0.2), [2.0], [[3.0], [1.0]])
    np.testing.assert_allclose(plain, [1.3568], rtol=1e-15)
    # Nesterov: d = g + μm. Step 1: 3.4 + 1.7 = 5.1, θ = 1.49. Step 2: g + λθ = 1.298, m = 2.998, d = 2.797, θ = 1.2103.
    nesterov = stepped(lambda p: SGD(p, 0.1, 0.5, 0, 0.2, nesterov=True), [2.0], [[3.0], [1.0]])
    np.testing.assert_allclose(nesterov, [1.2103], rtol=1e-15)


def test_two_dampened_steps_upwards_by_hand() -> None:
    # lr 0.1, μ 0.5, τ 0.2: m = −3, θ = 2 + 0.3.  Then m = −1.5 − 0.8 · 2 = −3.1, θ = 2.3 + 0.31.
    data = stepped(lambda p: SGD(p, 0.1, 0.5, 0.2, maximize=True), [2.0], [[3.0], [2.0]])
    np.testing.assert_allclose(data, [2.61], rtol=1e-15)


def test_two_steps_of_amsgrad_by_hand() -> None:
    # As below without λ; then v = 1.9375 is less than the 2.25 before: v̂ = 2.25/0.4375, θ = 1.9 − 0.1 (5/3)/√v̂.
    data = stepped(lambda p: Adam(p, 0.1, (0.5, 0.75), 0.0, 0.0, True), [2.0], [[3.0], [1.0]])
    np.testing.assert_allclose(data, [1.9 - 0.1 * (5 / 3) / (2.25 / 0.4375) ** 0.5], rtol=1e-15)


def test_two_steps_of_adamw_by_hand() -> None:
    # lr 0.1, β 0.5 and 0.75, ε 0, λ 0.2; θ = 2, g = 3: θ(1 − 0.02) = 1.96; m = 1.5, m̂ = 3; v = 2.25, v̂ = 9;
    # θ = 1.96 − 0.1 · 3/3 = 1.86.  Then g = 1: θ(1 − 0.02) = 1.8228; m = 1.25, m̂ = 1.25/0.75 = 5/3;
    # v = 1.6875 + 0.25 = 1.9375, v̂ = 1.9375/0.4375 = 31/7; θ = 1.8228 − 0.1 (5/3)/√(31/7).
    data = stepped(lambda p: AdamW(p, 0.1, (0.5, 0.75), 0.0, 0.2), [2.0], [[3.0], [1.0]])
    np.testing.assert_allclose(data, [1.8228 - 0.1 * (5 / 3) / (31 / 7) ** 0.5], rtol=1e-15)


def test_a_step_of_adam_by_hand() -> None:
    # λ 0.5 is part of the gradient: g = 3 + 0.5 · 2 = 4; m̂ = 4, v̂ = 16; θ = 2 − 0.1 · 4/(4 + 1) = 1.92 with ε = 1.
    data = stepped(lambda p: Adam(p, 0.1, (0.5, 0.75), 1.0, 0.5), [2.0], [[3.0]])
    np.testing.assert_allclose(data, [1.92], rtol=1e-15)


@every_optimizer
def test_frozen_parameters_and_those_without_a_gradient_are_left_alone(make: Callable[[Any], Optimizer]) -> None:
    frozen, idle = Parameter(np.ones(3), requires_grad=False), Parameter(np.ones(3))
    live = Parameter(np.ones(3))
    optimizer = make([frozen, idle, live])
    live.grad = np.array([1.0, -2.0, 0.5])
    frozen.grad = np.ones(3)  # even so
    optimizer.step()
    assert (frozen.data == 1).all() and (idle.data == 1).all() and not (live.data == 1).any()
    assert set(optimizer.state) <= {2}


@every_optimizer
def test_updates_are_in_place_and_keep_the_dtype_and_the_gradient(make: Callable[[Any], Optimizer]) -> None:
    parameter = Parameter(np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3))
    data, parameter.grad = parameter.data, np.full((2, 3), 0.3, dtype=np.float32)
    parameter.grad.flags.writeable = False
    optimizer = make([parameter])
    optimizer.step()
    optimizer.step()
    assert parameter.data is data and data.dtype == np.float32
    for values in optimizer.state.values():
        assert all(value.dtype == np.float32 for value in values.values() if isinstance(value, np.ndarray))


@every_optimizer
def test_a_memory_mapped_parameter_is_copied_before_its_first_update(
    make: Callable[[Any], Optimizer], tmp_path: Path
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(np.ones(3).tobytes())
    with open(path, "rb") as file:
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    parameter = Parameter(mapped)
    parameter.grad = np.ones(3)
    make([parameter]).step()
    assert not (parameter.data == 1).any() and (mapped == 1).all()
    assert path.read_bytes() == np.ones(3).tobytes()


@every_optimizer
def test_a_saved_and_loaded_state_goes_on_with_the_same_bits(make: Callable[[Any], Optimizer]) -> None:
    gradients = np.random.default_rng(0).standard_normal((6, 2, 3))
    whole = stepped(make, np.ones((2, 3)), gradients)
    first = Parameter(np.ones((2, 3)))
    optimizer = make([first])
    for gradient in gradients[:3]:
        first.grad = gradient
        optimizer.step()
    saved, second = optimizer.state_dict(), Parameter(first.data.copy())
    again = make([second])
    again.load_state_dict(saved)
    first.grad = gradients[5]
    optimizer.step()  # what the first one does afterwards must not reach the second
    for gradient in gradients[3:]:
        second.grad = gradient
        again.step()
    assert second.data.tobytes() == whole.tobytes()


def test_a_loaded_state_brings_the_options_of_its_groups_and_each_parameter_its_own() -> None:
    """Parameters of several groups, sizes and gradients: numbers count on from group to group."""
    rng = np.random.default_rng(3)
    sizes = (2, 3, 1, 4)
    gradients = [[rng.standard_normal(size) for size in sizes] for _ in range(5)]

    def made(rate: float, betas: tuple[float, float], decay: float) -> tuple[list[Parameter], AdamW]:
        parameters = [Parameter(np.linspace(1, 2, size)) for size in sizes]
        groups = [{"params": parameters[:3], "weight_decay": decay}, {"params": parameters[3:], "betas": betas}]
        return parameters, AdamW(groups, rate)

    def step(parameters: list[Parameter], optimizer: AdamW, number: int) -> None:
        for parameter, gradient in zip(parameters, gradients[number], strict=True):
            parameter.grad = gradient
        optimizer.step()

    whole, first = made(0.1, (0.5, 0.75), 0.3)
    for number in range(3):
        step(whole, first, number)
    parameters, second = made(0.9, (0.1, 0.2), 0.0)
    second.load_state_dict(first.state_dict())
    for parameter, other in zip(parameters, whole, strict=True):
        parameter.data = other.data.copy()
    for number in (3, 4):
        step(whole, first, number)
        step(parameters, second, number)
    for parameter, other in zip(parameters, whole, strict=True):
        assert parameter.data.tobytes() == other.data.tobytes()


@every_optimizer
def test_a_gradient_that_the_caller_keeps_is_not_written_to_later(make: Callable[[Any], Optimizer]) -> None:
    parameter, kept = Parameter(np.array([1.0, -2.0])), np.array([0.5, 3.0])
    optimizer = make([parameter])
    for gradient in (kept, np.array([-4.0, 1.5]), np.array([2.0, 7.0])):
        parameter.grad = gradient
        optimizer.step()
    assert kept.tolist() == [0.5, 3.0]


@every_optimizer
def test_the_state_has_the_parameters_precision(make: Callable[[Any], Optimizer]) -> None:
    for dtype in (np.float32, np.float64):
        parameter = Parameter(np.array([1 / 3, -0.7], dtype=dtype))
        optimizer = make([parameter])
        parameter.grad = np.array([2 / 7, 1.1], dtype=dtype)
        optimizer.step()
        for values in optimizer.state.values():
            assert all(value.dtype == dtype for value in values.values() if isinstance(value, np.ndarray))


@every_optimizer
def test_mirrored_gradients_give_mirrored_steps(make: Callable[[Any], Optimizer]) -> None:
    gradients, theta = np.random.default_rng(1).standard_normal((4, 5)), np.random.default_rng(2).standard_normal(5)
    ours, mirrored = stepped(make, theta, gradients), stepped(make, -theta, -gradients)
    assert (ours == -mirrored).all() and not (ours == theta).any()


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_adams_step_does_not_see_the_gradients_scale(kind: Any) -> None:
    gradients, theta = np.random.default_rng(1).standard_normal((4, 5)), np.random.default_rng(2).standard_normal(5)
    ours = stepped(lambda p: kind(p, 0.1, eps=2.0**-20, weight_decay=0.0), theta, gradients)
    scaled = stepped(lambda p: kind(p, 0.1, eps=2.0**-12, weight_decay=0.0), theta, 2.0**8 * gradients)
    assert ours.tobytes() == scaled.tobytes()  # powers of two: nothing is rounded differently


def test_the_first_step_of_adam_has_the_size_of_the_rate() -> None:
    data = stepped(lambda p: Adam(p, 0.1, eps=0.0), [0.0, 0.0], [[1e-3, -7.0]])
    np.testing.assert_allclose(data, [-0.1, 0.1], rtol=1e-14)


def test_a_zero_gradient_moves_nothing_but_adamws_decay() -> None:
    assert stepped(lambda p: Adam(p, 0.1), [2.0, -3.0], np.zeros((3, 2))).tolist() == [2.0, -3.0]
    decayed = stepped(lambda p: AdamW(p, 0.5, weight_decay=0.5), [2.0, -4.0], np.zeros((1, 2)))
    assert decayed.tolist() == [1.5, -3.0]


def test_groups_have_options_of_their_own() -> None:
    slow, fast = Parameter(np.zeros(1)), Parameter(np.zeros(1))
    optimizer = SGD([{"params": [slow], "lr": 0.5}, {"params": [fast]}], lr=2.0)
    slow.grad = fast.grad = np.ones(1)
    optimizer.step()
    assert slow.data == -0.5 and fast.data == -2.0
    optimizer.param_groups[1]["maximize"] = True
    optimizer.step()
    assert slow.data == -1.0 and fast.data == 0.0
    optimizer.zero_grad()
    assert slow.grad is None and fast.grad is None


def test_what_makes_no_sense_is_an_error() -> None:
    parameter, other = Parameter(np.ones((2, 3))), Parameter(np.ones(1))
    for make, message in (
        (lambda: SGD([]), "at least one parameter"),
        (lambda: SGD([parameter, parameter]), "stands twice"),
        (lambda: SGD([parameter], lr=-1.0), "lr must not be negative; got -1.0"),
        (lambda: SGD([{"params": [parameter]}, {"params": [other], "lr": -2.0}]), "lr must not be negative; got -2.0"),
        (lambda: SGD([parameter], nesterov=True), "nesterov needs a momentum"),
        (lambda: SGD([parameter], momentum=0.9, nesterov=True, dampening=0.1), "dampened; got dampening=0.1"),
        (lambda: AdamW([parameter], weight_decay=-0.1), "weight_decay must not be negative"),
        (lambda: Adam([parameter], betas=(0.9, 1.0)), r"betas must lie in \[0, 1\); got \(0.9, 1.0\)"),
        (
            lambda: Adam([{"params": [parameter], "betas": (-0.1, 0.9)}]),
            r"betas must lie in \[0, 1\); got \(-0.1, 0.9\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    optimizer = Adam([parameter])
    for state, message in (
        ({"state": {}, "param_groups": []}, "has 0 groups, this optimiser 1"),
        ({"state": {4: {}}, "param_groups": [{}]}, "parameter number 4; there are 1"),
        ({"state": {0: {"exp_avg": np.ones(2)}}, "param_groups": [{}]}, r"shape \(2,\), expected \(2, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(state)


class Factored(Optimizer):
    """θ −= rate · g / (row of |g|, summed up): its state has another shape than θ."""

    def update(self, theta: Any, g: Any, state: dict[str, Any], group: Any) -> None:
        state["rows"] = state.get("rows", 0) + np.abs(g).sum(axis=1)
        theta -= group["lr"] * g / state["rows"][:, None]


def test_what_is_kept_may_have_a_shape_of_its_own() -> None:
    parameter = Parameter(np.zeros((2, 3)))
    optimizer = Factored([parameter], {"lr": 1.0})
    for _ in range(2):
        parameter.grad = np.ones((2, 3))
        optimizer.step()
    np.testing.assert_allclose(parameter.data, -1 / 3 - 1 / 6, rtol=1e-15)


def test_a_parameter_of_another_shape_than_when_something_was_kept_is_refused() -> None:
    parameter = Parameter(np.zeros((2, 3)))

    def step(optimizer: Optimizer, rows: int) -> None:
        parameter.data, parameter.grad = np.zeros((rows, 3)), np.ones((rows, 3))
        optimizer.step()

    plain, adam, other = SGD([parameter], 1.0), Adam([parameter], 1.0), Adam([parameter], 1.0)
    step(plain, 2)
    step(plain, 4)  # it keeps nothing
    plain.load_state_dict(plain.state_dict())
    step(plain, 2)
    step(adam, 2)
    with pytest.raises(ValueError, match=r"number 0 is of shape \(2, 3\), and it has \(4, 3\): make a new"):
        step(adam, 4)
    assert not parameter.data.any()
    step(other, 4)
    adam.load_state_dict(other.state_dict())
    step(adam, 4)
    with pytest.raises(ValueError, match=r"of shape \(4, 3\), and it has \(2, 3\)"):
        step(adam, 2)


def test_an_optimiser_says_its_groups() -> None:
    first, second = ([Parameter(np.ones(2)) for _ in range(n)] for n in (2, 1))
    said = repr(SGD([{"params": first}, {"params": second, "lr": 0.5}], 0.25))
    assert "2 parameters, lr=0.25" in said and "1 parameters, lr=0.5" in said
