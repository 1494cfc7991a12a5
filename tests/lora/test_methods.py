"""What holds for every method: its forward is what its definition says, in values and in every gradient."""

from __future__ import annotations

import tracemalloc
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora import gradcheck
from npora.nn import Linear
from tests.lora.cases import METHODS, Method, adapted, adapter_of

cases = pytest.mark.parametrize("case", METHODS, ids=lambda case: case.name.replace(" ", "-"))
sizes = st.tuples(st.integers(2, 7), st.integers(2, 7)).filter(lambda pair: pair[0] != pair[1])


def drops(case: Method) -> bool:
    return any(field.name.endswith("_dropout") for field in fields(case.config))


def drawn(seed: int, *shape: int) -> Any:
    array = np.random.default_rng(seed).standard_normal(shape)
    array.flags.writeable = False
    return array


@cases
@given(pair=sizes, leading=st.sampled_from([(1,), (5,), (0,), (2, 3)]), seed=st.integers(0, 99), data=st.data())
def test_forward_is_the_layer_with_what_the_method_makes_of_its_matrix(
    case: Method, pair: tuple[int, int], leading: tuple[int, ...], seed: int, data: st.DataObject
) -> None:
    (i, o), conv, bias = pair, data.draw(st.booleans()), data.draw(st.booleans())
    layer = adapted(case, i, o, seed, conv=conv, bias=bias)
    adapter, base = layer.adapters["default"], layer.base_layer
    x, dy = drawn(seed + 1, *leading, i), drawn(seed + 2, *leading, o)
    y, backward = layer(x)
    dx = backward(dy)
    W, b, back_merged = adapter.merged(base.matrix, None if base.bias is None else base.bias.data, *adapter.theta)
    plain = Linear(i, o, bias=b is not None, dtype=np.float64)
    plain.weight.data = np.array(W)
    if plain.bias is not None and b is not None:
        plain.bias.data = np.array(b)
    expected, back_plain = plain(x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12 * max(1, abs(expected).max(initial=0)))
    np.testing.assert_allclose(dx, back_plain(dy), rtol=0, atol=1e-12 * max(1, abs(dx).max(initial=0)))
    zero = np.zeros_like(W)
    dW = zero if plain.weight.grad is None else plain.weight.grad
    _, _, *dtheta = back_merged(dW, None if plain.bias is None else plain.bias.grad)
    trained = [tensor.trained for tensor in adapter.tensors.values()]
    for parameter, gradient, is_trained in zip(adapter.parameters(), dtheta, trained, strict=True):
        if not is_trained:
            assert parameter.grad is None
            continue
        found = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad
        assert gradient is not None
        np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-11 * max(1, abs(gradient).max(initial=0)))
    assert base.weight.grad is None and (base.bias is None or base.bias.grad is None)


@cases
@pytest.mark.parametrize("bias", [True, False])
def test_the_definitions_pullback_is_that_of_its_forward(case: Method, bias: bool) -> None:
    """Of W, b and every tensor: trained biases, and adapters that are merged one after another, read them all."""
    layer = adapted(case, 5, 3, bias=bias)
    adapter, base = layer.adapters["default"], layer.base_layer

    def merged(W: Any, *rest: Any) -> Any:
        b, theta = (rest[0], rest[1:]) if bias else (None, rest)
        changed, c, backward = adapter.merged(W, b, *theta)

        def pullback(dy: Any) -> Any:
            dW, db, *dtheta = backward(dy[:, :-1], dy[:, -1]) if bias else backward(dy, None)
            gradients = [dW, *([db] if bias else []), *dtheta]
            return tuple(np.zeros_like(x) if g is None else g for x, g in zip((W, *rest), gradients, strict=True))

        return (changed if c is None else np.concatenate([changed, c[:, None]], axis=1)), pullback

    arrays = [base.matrix, *([] if base.bias is None else [base.bias.data]), *adapter.theta]
    report = gradcheck(merged, *map(np.array, arrays))
    assert report.ok, report


@cases
def test_a_fresh_adapter_leaves_its_layer_as_it_is_where_the_method_says_so(case: Method) -> None:
    base = Linear(5, 3, rng=1, dtype=np.float64)
    adapter = adapter_of(case, base, np.random.default_rng(0))
    x = drawn(2, 4, 5)
    same = adapter.forward(x, base)[0].tobytes() == base(x)[0].tobytes()
    assert same == type(adapter).identity_at_start


@pytest.mark.parametrize("case", [case for case in METHODS if drops(case)], ids=lambda case: case.name)
def test_dropout_goes_to_the_adapters_own_path_alone(case: Method) -> None:
    """With everything dropped, what is left is what the adapter does not see: the base."""
    layer = adapted(case, 5, 3)
    adapter, x = layer.adapters["default"], drawn(2, 4, 5)
    adapter.dropout_p = 0.5
    y, backward = layer(x, np.random.default_rng(3))
    again, _ = layer(x, np.random.default_rng(3))
    assert y.tobytes() == again.tobytes() and not np.allclose(y, layer(x)[0])
    layer.train()
    with pytest.raises(ValueError, match="dropout needs its randomness passed in"):
        layer(x)
    assert backward(np.ones_like(y)).shape == x.shape


@cases
def test_no_pullback_keeps_an_array_of_the_matrixs_size(case: Method) -> None:
    layer = adapted(case, 60, 40)
    _, backward = layer(drawn(0, 2, 60))
    kept, seen, left = [], {id(p.data) for p in layer.parameters()}, [backward]
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, np.ndarray) and value.base is None and value.flags.owndata:
            kept.append(value.size)
        left += [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
        left += list(value) if isinstance(value, tuple | list) else []
    assert max(kept, default=0) < 60 * 40


@cases
@pytest.mark.parametrize("conv", [False, True])
def test_an_array_of_the_matrixs_size_is_formed_only_where_the_method_says_so(case: Method, conv: bool) -> None:
    layer = adapted(case, 900, 700, conv=conv)
    x, dy = drawn(0, 2, 900), drawn(1, 2, 700)
    tracemalloc.start()
    try:
        layer(x)[1](dy)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (peak >= layer.base_layer.weight.data.nbytes) == layer.adapters["default"].forms_matrix
