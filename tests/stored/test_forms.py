"""A layer whose matrix lies in a form of its own computes as with the floats that this stands for."""

from __future__ import annotations

import copy
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npora import get_num_threads, gradcheck, set_num_threads
from npora.machine import stored
from npora.machine.product import product
from npora.nn import Conv1D, Embedding, Linear, Module, Parameter
from npora.stored import FORMS

forms = pytest.mark.parametrize("form", FORMS)
U = 2.0**-24  # float32's unit roundoff


def drawn(seed: int, *shape: int, dtype: Any = np.float32) -> Any:
    array = np.random.default_rng(seed).standard_normal(shape).astype(dtype)
    array.flags.writeable = False
    return array


def narrow(layer: Any, form: str) -> Any:
    """The layer with its matrix stored, and with the floats that this stands for."""
    stored = FORMS[form](layer.weight.data)
    wide = copy.deepcopy(layer)
    layer.weight, wide.weight = Parameter(stored, requires_grad=False), Parameter(stored[:], requires_grad=False)
    return layer, wide


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("i", [0, 1, 65, 1100])
@settings(max_examples=8)
@given(
    n=st.integers(0, 5), o=st.sampled_from([0, 1, 9, 70, 530]), seed=st.integers(0, 9), form=st.sampled_from([*FORMS])
)
def test_a_product_is_that_of_the_floats_to_the_rounding_of_its_sums(
    n: int, i: int, o: int, seed: int, form: str, turned: bool, dtype: Any
) -> None:
    W = FORMS[form](drawn(seed, o, i) if turned else drawn(seed, i, o))
    b: Any = W.T if turned else W
    a = drawn(seed + 1, n, i, dtype=dtype)
    wide = np.asarray(W).astype(np.float64).T if turned else np.asarray(W).astype(np.float64)
    found = product(a, b)
    assert found.shape == (n, o) and found.dtype == dtype
    # |error| ≤ γ_k |a| |W|, of k summands one after another; a complex sum has two roundings a summand.
    bound = 4 * (i + 2) * U * (np.abs(a).astype(np.float64) @ np.abs(wide))
    assert (np.abs(found - a.astype(np.result_type(dtype, np.float64)) @ wide) <= bound).all()


@forms
def test_a_product_has_the_same_bits_for_any_number_of_threads(form: str) -> None:
    W, x, dy = FORMS[form](drawn(0, 700, 1300)), drawn(1, 19, 1300), drawn(2, 19, 700)
    before, found = get_num_threads(), []
    try:
        for number in (1, 2, 3):
            set_num_threads(number)
            found.append((product(x, W.T).tobytes(), product(dy, W).tobytes()))
    finally:
        set_num_threads(before)
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("leading", [(5,), (1,), (0,), (2, 3)])
@pytest.mark.parametrize("kind", [Linear, Conv1D])
@forms
def test_a_layer_is_that_of_the_floats(form: str, kind: type[Linear], leading: tuple[int, ...]) -> None:
    layer, wide = narrow(kind(13, 7, rng=1), form)
    for each in (layer, wide):
        each.bias.data = drawn(3, 7)
    x, dy = drawn(1, *leading, 13), drawn(2, *leading, 7)
    (y, backward), (expected, back_wide) = layer(x), wide(x)
    bound = 16 * U * (1 + np.abs(expected).max(initial=0)) * math.sqrt(13)
    np.testing.assert_allclose(y, expected, rtol=0, atol=bound, strict=True)
    np.testing.assert_allclose(backward(dy), back_wide(dy), rtol=0, atol=bound, strict=True)
    np.testing.assert_array_equal(layer.bias.grad, wide.bias.grad)
    assert layer.weight.grad is None and (layer.in_features, layer.out_features, layer.dtype) == (13, 7, np.float32)
    np.testing.assert_array_equal(layer.matrix, wide.matrix)


@forms
def test_an_embeddings_rows_are_the_very_floats(form: str) -> None:
    layer, wide = narrow(Embedding(11, 3, rng=1), form)
    ids = np.array([[4, 0, 4], [10, 1, 2]])
    y, backward = layer(ids)
    np.testing.assert_array_equal(y, wide(ids)[0], strict=True)
    assert backward(drawn(0, 2, 3, 3)) is None and layer.weight.grad is None
    with pytest.raises(ValueError, match="id 11 at"):
        layer(np.array([11]))


@forms
def test_a_gradient_check_goes_through_a_stored_matrix(form: str) -> None:
    """Of a Conv1D, in float32; the contracts have a Linear, and LoRA on one."""
    layer, _ = narrow(Conv1D(5, 4, rng=1), form)
    before = layer.weight.data.tobytes()
    report = gradcheck(layer, drawn(1, 3, 5), dtype="float32")
    assert report.ok and layer.weight.data.tobytes() == before


@forms
def test_in_another_dtype_it_is_the_same_stored_matrix(form: str) -> None:
    W: Any = FORMS[form](drawn(0, 70, 65))
    wide = W.astype(np.float64)
    assert wide.dtype == np.float64 and wide.bits is W.bits and W.astype(np.float32) is W and wide.T.dtype == np.float64
    a = drawn(1, 3, 65, dtype=np.float64)
    np.testing.assert_allclose(product(a, wide.T), a @ np.asarray(W, np.float64).T, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(wide[5:9, 3], np.asarray(W, np.float64)[5:9, 3], strict=True)


class Wrong(Linear):
    def forward(self, x: Any, rng: Any = None) -> Any:
        y, backward = super().forward(x, rng)
        return y, lambda dy: backward(dy) * np.float64(1 + 1e-6)


def test_a_gradient_check_in_float64_finds_what_only_float64_can_see() -> None:
    layer, _ = narrow(Wrong(5, 4, rng=1), "nf4")
    assert not gradcheck(layer, drawn(1, 3, 5, dtype=np.float64)).ok


def traced(run: Callable[[], Any]) -> tuple[int, int]:
    """Bytes that are held when it has run, and the most that were held meanwhile."""
    tracemalloc.start()
    try:
        kept = run()
        held, peak = tracemalloc.get_traced_memory()
        del kept
    finally:
        tracemalloc.stop()
    return held, peak


@pytest.mark.parametrize("kind", [Linear, Conv1D])
@forms
def test_neither_forward_nor_backward_forms_the_matrix(form: str, kind: type[Linear]) -> None:
    i, o = 2048, 1536
    layer: Any = kind(i, o, bias=False)
    layer.weight = Parameter(FORMS[form](layer.weight.data), requires_grad=False)
    x, dy, before = drawn(1, 2, i), drawn(2, 2, o), get_num_threads()
    set_num_threads(2)
    try:
        layer(x)[1](dy)
        held, _ = traced(lambda: layer(x))
        _, peak = traced(lambda: layer(x)[1](dy))
    finally:
        set_num_threads(before)
    # In bytes: a tile has 2¹⁸ floats, and each thread has one, and in NF4 as much again to look up levels by.
    assert held < 100_000 and peak < i * o * 4 / (2 if form == "nf4" else 3)


@forms
def test_what_is_not_a_product_reads_it_as_the_array_of_its_floats(form: str) -> None:
    W = FORMS[form](drawn(0, 4, 3))
    floats, other = np.array(W), drawn(1, 4, 3)
    for found, expected in [
        (W + other, floats + other), (other - W, other - floats), (2 * W, 2 * floats), (np.abs(W), np.abs(floats)),
        (W.T * other.T, floats.T * other.T), (other.T @ W, other.T @ floats), (W.T[1], floats.T[1]),
        (W[1:3, :2], floats[1:3, :2]), (W.T[:2, 1:3], floats.T[:2, 1:3]), (np.asarray(W.T), floats.T),
        (W[2], floats[2]), (np.asarray(W, np.float64), floats.astype(np.float64)), (W.T.T, floats),
    ]:  # fmt: skip
        np.testing.assert_array_equal(found, expected)
    assert (W.shape, W.T.shape, W.ndim, W.size, len(W.T), W.nbytes) == ((4, 3), (3, 4), 2, 12, 3, W.bits.nbytes)


@forms
def test_a_parameter_holds_it_while_frozen_and_an_array_once_thawed(form: str) -> None:
    W = FORMS[form](drawn(0, 4, 3))
    parameter = Parameter(W, requires_grad=False)
    assert parameter.data is W and f"{form}, frozen" in repr(parameter)
    assert copy.deepcopy(parameter).data is W and not W.bits.flags.writeable
    for array in (W, W.bits):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0  # type: ignore[index]
    parameter.requires_grad = True
    assert isinstance(parameter.data, np.ndarray) and parameter.data.flags.writeable
    np.testing.assert_array_equal(parameter.data, W)
    for assign in (lambda: Parameter(W), lambda: setattr(parameter, "data", W)):
        with pytest.raises(TypeError, match="freeze it first"):
            assign()


def test_float64_beside_it_is_refused_with_what_to_do() -> None:
    layer, _ = narrow(Linear(3, 2, rng=1), "bfloat16")
    with pytest.raises(
        TypeError, match=r"float32, as its matrix in bfloat16 does.*load the model with dtype=np.float64"
    ):
        layer(drawn(0, 4, 3, dtype=np.float64))


@forms
def test_a_state_dict_goes_from_one_form_into_the_other(form: str) -> None:
    class Net(Module):
        def __init__(self, stored: bool) -> None:
            self.lower, self.upper = (narrow(Linear(3, 2, rng=seed), form)[0 if stored else 1] for seed in (1, 2))

    stored, wide = Net(True), Net(False)
    state = stored.state_dict()
    other = Net(True)
    other.load_state_dict(state)
    assert other.lower.weight.data is stored.lower.weight.data
    wide.requires_grad_(True)
    wide.load_state_dict(state)
    assert isinstance(wide.lower.weight.data, np.ndarray)
    np.testing.assert_array_equal(wide.lower.weight.data, state["lower.weight"])
    other.load_state_dict(wide.state_dict())
    np.testing.assert_array_equal(other.lower.weight.data, state["lower.weight"])


@pytest.mark.parametrize("form", FORMS)
def test_two_matrices_of_which_one_goes_on_are_not_the_same(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_PIECE", 8)  # of two rows, which are compared one piece after another
    x = np.arange(20, dtype=np.float32).reshape(5, 4)
    one = FORMS[form](x)
    assert stored.same_values(one, FORMS[form](x))
    assert not stored.same_values(one, FORMS[form](x[:4])) and not stored.same_values(FORMS[form](x[:0]), one)
