"""Every row of the table of layers through every contract."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.nn import Module, Parameter, checkpoint, holding
from npora.nn.module import Array
from npora.stored import Stored
from tests.contracts import CASES, Case, draw

every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_module = pytest.mark.parametrize(
    "case", [case for case in CASES if isinstance(case.build(), Module)], ids=lambda case: case.name
)
every_layer = pytest.mark.parametrize(
    "case", [case for case in CASES if not case.whole_model], ids=lambda case: case.name
)
every_row_wise = pytest.mark.parametrize("case", [case for case in CASES if case.row_wise], ids=lambda case: case.name)
every_module_that_recomputes_nothing = pytest.mark.parametrize(
    "case",
    [case for case in CASES if not (case.whole_model or case.frozen_rounds) and isinstance(case.build(), Module)],
    ids=lambda case: case.name,
)


def read_only(value: Any, dtype: Any = None) -> Any:
    if isinstance(value, Stored):
        return value if dtype is None else value.astype(dtype)
    if not isinstance(value, np.ndarray):
        return value
    value = value.astype(dtype) if dtype is not None and value.dtype.kind == "f" else value.copy()
    value.flags.writeable = False
    return value


def prepare(case: Case, dtype: Any = np.float64) -> tuple[Any, Callable[[], tuple[Any, Callable[..., Any]]]]:
    """The layer in this dtype, its arrays read-only, and a call of it that replays its randomness."""
    layer = case.build()
    if isinstance(layer, Module):
        for parameter in layer.parameters():
            parameter.data = read_only(parameter.data, dtype)
    inputs = [read_only(value, dtype) for value in case.inputs]

    def call() -> tuple[Any, Callable[..., Any]]:
        return layer(*inputs, **{key: read_only(copy.deepcopy(value)) for key, value in case.keywords.items()})

    return layer, call


def upstream(y: Any, seed: int = 0) -> Array:
    y = np.asarray(y)
    return read_only(draw(*y.shape, seed=100 + seed), y.dtype)


def gradients(layer: Any, backward: Callable[..., Any], dy: Array) -> list[Array]:
    """Everything that backward gives: the inputs' gradients, then the parameters'."""
    if isinstance(layer, Module):
        layer.zero_grad()
    returned = backward(dy)
    inputs = [g for g in (returned if isinstance(returned, tuple) else (returned,)) if g is not None]
    parameters = layer.parameters() if isinstance(layer, Module) else ()
    return inputs + [parameter.grad for parameter in parameters if parameter.grad is not None]


def trained(layer: Module) -> list[Parameter]:
    return [parameter for parameter in layer.parameters() if parameter.requires_grad]


def assert_same_bits(left: list[Array], right: list[Array]) -> None:
    assert len(left) == len(right) > 0
    for a, b in zip(left, right, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@every_case
@pytest.mark.parametrize("seed", [0, 1])
def test_the_pullback_passes_the_gradient_check(case: Case, seed: int) -> None:
    # All of a layer's once, of a model's many tensors some; at another dy fewer: the dot products below see the others.
    elements = (12 if seed == 0 else 4) if case.whole_model else 2000 if seed == 0 else 20
    gradcheck(case.build(), *case.inputs, seed=seed, max_elements=elements, **case.keywords).raise_if_failed()


@every_case
def test_in_float32_the_pullback_agrees_with_the_derivative_in_float64(case: Case) -> None:
    elements = 4 if case.whole_model else 12
    report = gradcheck(case.build(), *case.inputs, dtype="float32", max_elements=elements, **case.keywords)
    assert report.verdict in ("PASS", "UNRESOLVED"), str(report)


@every_layer
def test_the_pullback_agrees_with_central_differences_to_their_error_bar(case: Case) -> None:
    report = gradcheck(case.build(), *case.inputs, method="central", max_elements=6, **case.keywords)
    assert report.verdict in ("PASS", "UNRESOLVED"), str(report)


@every_case
def test_the_dot_product_test_passes_in_every_direction(case: Case) -> None:
    gradcheck(case.build(), *case.inputs, method="dot-product", seed=1, **case.keywords).raise_if_failed()


@every_case
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_outputs_and_gradients_have_the_dtype_of_the_inputs(case: Case, dtype: Any) -> None:
    layer, call = prepare(case, dtype)
    y, backward = call()
    assert np.asarray(y).dtype == dtype
    for gradient in gradients(layer, backward, upstream(y)):
        assert gradient.dtype == dtype


@every_case
def test_the_imaginary_part_of_a_complex_step_is_the_derivative(case: Case) -> None:
    """Im f(x + ih v)/h = J v to rounding, so ⟨dy, Jv⟩ = ⟨Jᵀdy, v⟩ holds far below what differences can see."""
    layer, call = prepare(case)
    held: dict[tuple[str, int], Array] = {}
    with holding(held, np.float64):
        y, backward = call()
    dy = upstream(y)
    analytic = gradients(layer, backward, dy)
    stepped = copy.deepcopy(layer)
    directions = []
    inputs = []
    for position, value in enumerate(case.inputs):
        if value.dtype.kind == "f":
            directions.append(draw(*value.shape, seed=50 + position))
            value = value + 1e-20j * directions[-1]
        inputs.append(value)
    if isinstance(stepped, Module):
        for parameter in stepped.parameters():
            parameter.data = parameter.data.astype(np.complex128)
        for position, parameter in enumerate(trained(stepped)):
            directions.append(draw(*parameter.shape, seed=70 + position))
            parameter.data = parameter.data + 1e-20j * directions[-1]
    with holding(held, np.complex128):
        value, _ = stepped(*inputs, **copy.deepcopy(case.keywords))
    left = np.sum(dy * np.asarray(value).imag) / 1e-20
    products = [g * v for g, v in zip(analytic, directions, strict=True)]
    # Each of the k products is off by some roundings; their norm, times 2¹⁰ u, bounds the sum (see checking, Higham).
    bound = 2**10 * 2.0**-53 * sum(float(np.linalg.norm(p)) + float(np.abs(p).sum()) for p in products)
    assert abs(left - sum(float(p.sum()) for p in products)) <= bound


@every_case
def test_two_forwards_then_two_backwards_in_either_order_give_the_same_bits(case: Case) -> None:
    layer, call = prepare(case)
    (y, first), (_, second) = call(), call()
    alone = gradients(layer, first, upstream(y))
    assert_same_bits(gradients(layer, second, upstream(y)), alone)
    assert_same_bits(gradients(layer, first, upstream(y)), alone)


@every_case
def test_backward_is_linear_in_the_upstream_gradient(case: Case) -> None:
    layer, call = prepare(case)
    y, backward = call()
    dy = upstream(y)
    once = gradients(layer, backward, dy)
    assert_same_bits(gradients(layer, backward, read_only(2 * dy)), [2 * g for g in once])
    for gradient in gradients(layer, backward, read_only(0 * dy)):
        assert not gradient.any()
    other = upstream(y, seed=1)
    both = gradients(layer, backward, read_only(dy + other))
    # Roundings of terms no larger than the largest entry of any gradient, times the number of terms in a sum.
    bound = 2**10 * 2.0**-53 * max(float(np.abs(g).max(initial=0)) for g in once)
    for g, h, total in zip(once, gradients(layer, backward, other), both, strict=True):
        np.testing.assert_allclose(g + h, total, rtol=0, atol=bound)


@every_module_that_recomputes_nothing
def test_backward_uses_the_parameters_that_forward_saw(case: Case) -> None:
    layer, call = prepare(case)
    (y, first), (_, second) = call(), call()
    expected = gradients(layer, first, upstream(y))
    for parameter in layer.parameters():
        parameter.data = read_only(2 * parameter.data + 1)
    assert_same_bits(gradients(layer, second, upstream(y)), expected)


@every_module
def test_gradients_of_two_uses_add(case: Case) -> None:
    layer, call = prepare(case)
    (y, first), (_, second) = call(), call()
    single = gradients(layer, first, upstream(y))
    layer.zero_grad()
    first(upstream(y))
    second(upstream(y))
    total = [parameter.grad for parameter in trained(layer)]
    for grad, alone in zip(total, single[len(single) - len(total) :], strict=True):
        # Twice the same bits, but where several places of a layer add to one parameter: their sum is rounded anew.
        np.testing.assert_allclose(grad, 2 * alone, rtol=0, atol=8 * 2.0**-53 * np.abs(alone).max(initial=0))


@every_module
def test_a_checkpointed_layer_gives_the_same_bits(case: Case) -> None:
    layer, call = prepare(case)
    y, backward = call()
    plain = gradients(layer, backward, upstream(y))
    inputs = [read_only(value, np.float64) for value in case.inputs]
    again, recompute = checkpoint(layer, *inputs, **copy.deepcopy(case.keywords))
    assert again.tobytes() == y.tobytes()
    for _ in range(2):
        assert_same_bits(gradients(layer, recompute, upstream(y)), plain)


@every_module
def test_a_frozen_layer_passes_the_same_gradient_on_and_keeps_its_bytes(case: Case) -> None:
    layer, call = prepare(case)
    y, backward = call()
    count = len(trained(layer))
    everything = gradients(layer, backward, upstream(y))
    before = {name: value.tobytes() for name, value in layer.state_dict().items()}
    layer.requires_grad_(False)
    frozen_y, frozen_backward = call()
    assert frozen_y.tobytes() == y.tobytes()
    inputs = gradients(layer, frozen_backward, upstream(y))
    same = everything[: len(everything) - count]
    if same and case.frozen_rounds:
        for left, right in zip(inputs, same, strict=True):
            np.testing.assert_allclose(left, right, rtol=0, atol=8 * 2.0**-53 * np.abs(right).max())
    elif same:
        assert_same_bits(inputs, same)
    assert all(parameter.grad is None for parameter in layer.parameters())
    assert {name: value.tobytes() for name, value in layer.state_dict().items()} == before
    for parameter in layer.parameters():
        with pytest.raises(ValueError, match="read-only"):
            parameter.data[...] = 0


@every_module
def test_a_state_dict_round_trips(case: Case) -> None:
    layer, call = prepare(case)
    y, _ = call()
    state = {name: value.copy() for name, value in layer.state_dict().items()}
    for parameter in layer.parameters():
        parameter.data = np.zeros_like(parameter.data)
    layer.load_state_dict(state)
    assert call()[0].tobytes() == y.tobytes()
    if state:
        name, value = next(iter(state.items()))
        with pytest.raises(ValueError, match=f"missing: {name}; unexpected: bogus"):
            layer.load_state_dict({"bogus": value, **{k: v for k, v in state.items() if k != name}})


@every_row_wise
@pytest.mark.parametrize("leading", [(), (1,), (0,), (6,), (2, 3), (2, 1, 3)])
def test_row_wise_layers_take_any_leading_axes(case: Case, leading: tuple[int, ...]) -> None:
    layer = case.build()
    width = case.inputs[0].shape[-1]
    x = read_only(draw(*leading, width, seed=9), np.float32)
    y, backward = layer(x, **case.keywords)
    assert y.shape[:-1] == leading
    dx = backward(upstream(y))
    assert dx.shape == x.shape and dx.dtype == np.float32
    for row in np.ndindex(leading):
        alone, back_alone = layer(x[row][None], **case.keywords)
        # Another row count may take another BLAS kernel: γ₅ of float32 on sums of 5 products of size about 3.
        np.testing.assert_allclose(y[row], alone[0], rtol=0, atol=2e-5)
        np.testing.assert_allclose(dx[row], back_alone(upstream(y)[row][None])[0], rtol=0, atol=2e-5)
