"""What holds for every method: its forward is what its definition says, in values and in every gradient."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora import LoraConfig, PeftModel, VeraConfig, get_peft_model, gradcheck
from npora.lora.adapter import Adapter
from npora.lora.folder import PREFIX
from npora.lora.record import canonical
from npora.nn import Conv1D, Linear, Module
from tests.lora.cases import METHODS, Method, adapted, adapter_of, drops, goes_on

cases = pytest.mark.parametrize("case", METHODS, ids=lambda case: case.name.replace(" ", "-"))
ROUNDED = ("hra_linear",)  # a reflection and the same once more is nothing, to rounding
sizes = st.tuples(st.integers(2, 7), st.integers(2, 7)).filter(lambda pair: pair[0] != pair[1])


class Held(Module):
    def __init__(self) -> None:
        self.dense = Linear(5, 4, rng=1, dtype=np.float64)

    def forward(self, x: Any, rng: np.random.Generator | None = None) -> Any:
        return self.dense(x, rng)


def drawn(seed: int, *shape: int) -> Any:
    array = np.random.default_rng(seed).standard_normal(shape)
    array.flags.writeable = False
    return array


@cases
@given(pair=sizes, leading=st.sampled_from([(1,), (5,), (0,), (2, 3)]), seed=st.integers(0, 99), data=st.data())
def test_forward_is_the_layer_with_what_the_method_makes_of_its_matrix(
    case: Method, pair: tuple[int, int], leading: tuple[int, ...], seed: int, data: st.DataObject
) -> None:
    (i, o), conv, bias = pair, goes_on(case, Conv1D) and data.draw(st.booleans()), data.draw(st.booleans())
    layer = adapted(case, i, o, seed, conv=conv, bias=bias)
    adapter, base = layer.adapters["default"], layer.base_layer
    if base.bias is not None:
        base.bias.requires_grad = True
    x, o = drawn(seed + 1, *leading, i), base.out_features
    y, backward = layer(x)
    dy = drawn(seed + 2, *y.shape)
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
    _, db, *dtheta = back_merged(dW, None if plain.bias is None else plain.bias.grad)
    for (tensor, parameter), gradient in zip(adapter.named(), dtheta, strict=True):
        if not tensor.trained:
            assert parameter.grad is None
            continue
        found = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad
        assert gradient is not None
        np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-11 * max(1, abs(gradient).max(initial=0)))
    assert base.weight.grad is None
    if base.bias is not None:
        assert base.bias.grad is not None and db is not None
        np.testing.assert_allclose(base.bias.grad, db, rtol=0, atol=1e-12 * max(1, abs(db).max(initial=0)))


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
            dW, db, *dtheta = backward(dy, None) if c is None else backward(dy[:, :-1], dy[:, -1])
            gradients = [dW, *([db] if bias else []), *dtheta]
            return tuple(np.zeros_like(x) if g is None else g for x, g in zip((W, *rest), gradients, strict=True))

        return (changed if c is None else np.concatenate([changed, c[:, None]], axis=1)), pullback

    arrays = [base.matrix, *([] if base.bias is None else [base.bias.data]), *adapter.theta]
    report = gradcheck(merged, *map(np.array, arrays))
    assert report.ok, report


@cases
def test_a_fresh_adapter_leaves_its_layer_as_it_is(case: Method) -> None:
    base = Linear(5, 4, rng=1, dtype=np.float64)
    adapter = adapter_of(case, base, np.random.default_rng(0))
    x = drawn(2, 4, 5)
    found, expected = adapter.forward(x, base)[0], base(x)[0]
    assert found.tobytes() == expected.tobytes() or case.name in ROUNDED
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@cases
def test_a_layer_refuses_what_its_base_refuses_in_the_same_words(case: Method) -> None:
    layer = adapted(case, 5, 3)
    for wrong in (drawn(0, 4, 6), drawn(0, 4, 1), drawn(0, 4, 5).astype(np.float32), [[1.0] * 5]):
        with pytest.raises((TypeError, ValueError)) as expected:
            layer.base_layer(wrong)
        with pytest.raises(expected.type) as found:
            layer(wrong)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("case", [case for case in METHODS if drops(case)], ids=lambda case: case.name)
def test_dropout_goes_to_the_adapters_own_path_alone(case: Method) -> None:
    """With everything dropped, what is left is what the adapter does not see: the base."""
    layer = adapted(case, 5, 3)
    adapter, x = layer.adapters["default"], drawn(2, 4, 5)
    adapter.dropout_p = 0.5
    report = gradcheck(layer, x, rng=np.random.default_rng(3))
    assert report.ok, report
    y, _ = layer(x, np.random.default_rng(3))
    again, _ = layer(x, np.random.default_rng(3))
    assert y.tobytes() == again.tobytes() and not np.allclose(y, layer(x)[0])
    report = gradcheck(layer, x, rng=np.random.default_rng(3))
    assert report.ok, report
    layer.train()
    with pytest.raises(ValueError, match="dropout needs its randomness passed in"):
        layer(x)


@cases
def test_an_adapter_is_switched_merged_saved_and_loaded_beside_one_of_another_method(
    case: Method, tmp_path: Path
) -> None:
    x, config = drawn(0, 4, 5), replace(case.config, target_modules=["dense"])
    plain = Held()(x)[0]
    model = get_peft_model(Held(), config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + drawn(1, *parameter.shape)
    y = model(x)[0]
    assert not np.allclose(y, plain)
    model.add_adapter("second", LoraConfig(target_modules=["dense"]))
    model.set_adapter("second")
    assert model(x)[0].tobytes() == plain.tobytes()
    model.set_adapter("default")
    with model.disable_adapter():
        assert model(x)[0].tobytes() == plain.tobytes()
    model.merge_adapter()
    np.testing.assert_allclose(model(x)[0], y, rtol=0, atol=1e-12)
    model.unmerge_adapter()
    assert model(x)[0].tobytes() == y.tobytes()
    live = {name: 0 for name, _ in model.named_parameters() if name.startswith(PREFIX) and ".default" in name}
    assert canonical(live, "").keys() == {n for n in model.adapter_parameters("default") if n.startswith(PREFIX)}
    model.save_pretrained(tmp_path, selected_adapters=["default"])
    again = PeftModel.from_pretrained(Held(), tmp_path)
    assert type(again.active_peft_config) is type(config) and again(x)[0].tobytes() == y.tobytes()
    np.testing.assert_allclose(model.merge_and_unload()(x)[0], y, rtol=0, atol=1e-12)


@cases
def test_of_two_merged_adapters_the_changes_add_where_their_method_says_so(case: Method) -> None:
    layer = adapted(case, 5, 3)
    layer.adapters["second"] = adapted(case, 5, 3, seed=1).adapters["default"]
    W, first, second = layer.base_layer.matrix, layer.get_delta_weight("default"), layer.get_delta_weight("second")
    layer.merge(adapter_names=["default", "second"])
    added = layer.merged_linear().matrix - W
    assert abs(first).max() > 0.01 and abs(second).max() > 0.01
    assert np.allclose(added, first + second, rtol=0, atol=1e-12) == (
        layer.adapters["default"].adds or not reads_w(case)
    )
    assert not np.allclose(added, first, rtol=0, atol=1e-3)


def reads_w(case: Method) -> bool:
    """Whether the case's ΔW depends on the matrix that it is added to."""
    layer = adapted(case, 5, 3)
    adapter, W = layer.adapters["default"], layer.base_layer.matrix
    changes = [adapter.merged(at, None, *adapter.theta)[0] - at for at in (W, 2 * W)]
    return not np.allclose(changes[0], changes[1], rtol=0, atol=1e-9)


@cases
def test_no_pullback_keeps_an_array_of_the_matrixs_size(case: Method) -> None:
    i, o = 900, 700  # of several blocks
    layer, x = adapted(case, i, o), drawn(0, 2, i)
    layer(x)  # whatever is made once is made
    gc.collect()
    tracemalloc.start()
    try:
        y, backward = layer(x)
        gc.collect()
        kept, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < i * o * x.itemsize / 2 and backward(drawn(7, *y.shape)).shape == x.shape
    forms = type(layer.adapters["default"]).forward is Adapter.forward  # W′
    assert (most > i * o * x.itemsize) == forms


@pytest.mark.parametrize("save_projection", [True, False])
def test_arrays_of_the_whole_model_are_in_the_file_where_the_config_says_so(save_projection: bool) -> None:
    config = VeraConfig(r=2, save_projection=save_projection)
    adapter = adapted(Method("VeRA", config), 5, 3).adapters["default"]
    own, whole = {"dense.vera_lambda_b", "dense.vera_lambda_d"}, {"base_model.vera_A", "base_model.vera_B"}
    assert {name for name, _ in adapter.in_file("dense", config)} == (own | whole if save_projection else own)
