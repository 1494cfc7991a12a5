"""What does not keep the contract `y, backward = layer(x)` is refused at once, with what came and what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.lora import LoRAAttention, LoRALinear
from npora.nn import (
    Conv1D,
    Embedding,
    LayerNorm,
    Linear,
    Module,
    MultiHeadAttention,
    Parameter,
    RMSNorm,
    cross_entropy,
)
from npora.nn.functional import cross_entropy as cross_entropy_function
from tests.tiny import tiny_bert

LAYERS: dict[str, Any] = {
    "Linear": lambda dtype: Linear(4, 3, dtype=dtype),
    "Conv1D": lambda dtype: Conv1D(4, 3, dtype=dtype),
    "frozen": lambda dtype: Linear(4, 3, dtype=dtype).requires_grad_(False),
    "LoRALinear": lambda dtype: LoRALinear(Linear(4, 3, dtype=dtype), r=2),
    "LayerNorm": lambda dtype: LayerNorm(4, dtype=dtype),
    "RMSNorm": lambda dtype: RMSNorm(4, dtype=dtype),
    "attention": lambda dtype: MultiHeadAttention(4, 2, dtype=dtype),
    "LoRAAttention": lambda dtype: LoRAAttention(4, 2, r=1, dtype=dtype),
}
DTYPES = ["float16", "float32", "float64", "int64", "int8", "bool", "complex64", "complex128"]
rng = np.random.default_rng(0)


def merged(dtype: Any) -> LoRALinear:
    layer = LoRALinear(Linear(4, 3, dtype=dtype), r=2)
    layer.merge()
    return layer.requires_grad_(False)


LAYERS["merged"] = merged


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("own", ["float32", "float64"])
def test_a_layer_computes_in_its_parameters_dtype_and_says_how_to_bring_x_there(name: str, own: str) -> None:
    layer = LAYERS[name](own)
    for dtype in DTYPES:
        x = rng.integers(0, 2, (2, 5, 4)).astype(dtype)
        if dtype == own:
            y, backward = layer(x)
            assert y.dtype == own and backward(y).dtype == own
            continue
        if np.dtype(dtype).char.lower() == np.dtype(own).char:  # a complex step
            assert layer(x)[0].dtype == dtype
            continue
        with pytest.raises(TypeError, match=rf"{own}, and was given {dtype}: pass x.astype\(np.{own}\)") as error:
            layer(x)
        assert (f"dtype=np.{dtype}" in str(error.value)) == (dtype in DTYPES[1:3] + DTYPES[-2:])


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_no_array_or_of_another_width_is_refused_by_name(name: str) -> None:
    layer = LAYERS[name]("float32")
    for x, said in (([[[1.0, 2, 3, 4]]], "a list"), (None, "nothing|a NoneType"), (3.0, "a float"), ("x", "a str")):
        with pytest.raises(TypeError, match=f"takes an array.*got ({said})"):
            layer(x)
    with pytest.raises(ValueError, match=r"of 4 inputs was given an array of shape \((2, 5|10), 7\)"):
        layer(np.ones((2, 5, 7), np.float32))
    with pytest.raises((ValueError, TypeError), match=r"given an array of shape \(\)|got a float32"):
        layer(np.float32(3))


def test_logits_are_of_floating_point() -> None:
    with pytest.raises(ValueError, match=r"got int64\[2,3\].*pass logits.astype\(float\)"):
        cross_entropy(np.ones((2, 3), int), np.array([0, 1]))


def test_ids_are_whole_numbers() -> None:
    for call in (Embedding(31, 3), lambda ids: tiny_bert()(ids)):
        with pytest.raises(TypeError, match=r"integer"):
            call(np.array([[1.0, 2.0]]))


@pytest.mark.parametrize("name", LAYERS)
def test_backward_takes_a_gradient_of_the_values_shape_and_dtype_alone(name: str) -> None:
    y, backward = LAYERS[name]("float32")(rng.standard_normal((2, 5, 4)).astype(np.float32))
    shape = rf"\(2, 5, {y.shape[-1]}\), float32"
    for dy in (np.ones(y.shape[1:], np.float32), np.ones((*y.shape, 1), np.float32), np.ones((), np.float32)):
        with pytest.raises(
            ValueError, match=rf"takes dy of shape {shape}.* got one of shape \({', '.join(map(str, dy.shape))}"
        ):
            backward(dy)
    for dtype in ("float64", "int64", "complex64"):
        with pytest.raises(TypeError, match=rf"takes dy of shape {shape}.* got {dtype}: pass dy.astype\(np.float32\)"):
            backward(y.astype(dtype))
    for dy in (None, 1.0, y.tolist()):
        with pytest.raises(TypeError, match=rf"takes dy of shape {shape}.*: pass np.asarray\(dy, np.float32\)"):
            backward(dy)
    for arguments in ((), (y, y)):
        with pytest.raises(TypeError, match=rf"called with {len(arguments)} arguments"):
            backward(*arguments)


class Own(Module):
    def __init__(self, result: Any) -> None:
        self.weight, self.result = Parameter(np.ones(3)), result

    def forward(self, x: Any) -> Any:
        return self.result(x)


FORGOTTEN: dict[str, Any] = {
    r"an array of shape \(2, 3\), float64": lambda x: x,  # of two rows, which unpack
    "nothing": lambda x: None,
    r"a tuple of 2: an array of shape \(2, 3\), float64, nothing": lambda x: (x, None),
    r"a tuple of 2: an array of shape \(2, 3\), float64, an array": lambda x: (x, x),
    r"a tuple of 3: an array of shape \(2, 3\), float64, a function, an int": lambda x: (x, lambda dy: dy, 3),
    "a list": lambda x: [x, lambda dy: dy],
}


@pytest.mark.parametrize("came", FORGOTTEN)
def test_a_forward_without_its_pullback_is_told_what_to_return(came: str) -> None:
    with pytest.raises(TypeError, match=rf"Own\.forward returned {came}.* expected \(y, backward\): return the value"):
        Own(FORGOTTEN[came])(np.ones((2, 3)))


def test_a_gradient_that_does_not_fit_its_parameter_says_what_to_do() -> None:
    parameter = Parameter(np.ones(3, np.float32))
    with pytest.raises(
        ValueError, match=r"x\.astype\(np\.float32\) to forward .* or make the layer with dtype=np\.float64"
    ):
        parameter.accumulate(np.ones(3))
    with pytest.raises(ValueError, match=r"of shape \(4,\), float32 came for a parameter of shape \(3,\)"):
        parameter.accumulate(np.ones(4, np.float32))


shapes = st.lists(st.integers(1, 4), max_size=4).map(tuple)
kinds = st.sampled_from(["int64", "float64", "bool"])


@given(shapes, shapes, kinds)
def test_cross_entropy_takes_rows_and_their_classes_or_says_how_to_make_them(
    logits_shape: tuple[int, ...], targets_shape: tuple[int, ...], kind: str
) -> None:
    logits, targets = np.zeros(logits_shape), np.zeros(targets_shape, kind)
    fits = len(logits_shape) == 2 and targets_shape == logits_shape[:1] and kind == "int64"
    if fits:
        assert float(cross_entropy(logits, targets)[0]) == pytest.approx(np.log(logits_shape[1]))
        return
    with pytest.raises(ValueError, match=r"takes logits \[n,v\] and integer targets \[n\]; got float64\[") as error:
        cross_entropy_function(logits, targets)
    said = str(error.value)
    if len(logits_shape) > 2 and targets_shape == logits_shape[:-1] and kind == "int64":  # the remedy is one
        advised = eval(said.partition("pass ")[2].partition(" and ")[0], {"logits": logits})
        assert np.isfinite(cross_entropy(advised, targets.reshape(-1))[0])
