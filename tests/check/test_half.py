"""Gradients in float16 and bfloat16: right kernels pass, a factor of 1.01 fails; kernels of one precision alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.check.half import _measure
from npora.check.subject import Subject
from npora.check.verdict.comparison import dtype_of, precision_of
from npora.nn import Linear
from npora.nn import functional as F
from npora.nn.module import Array

rng = np.random.default_rng(0)
X, W = rng.standard_normal((3, 5)), rng.standard_normal((2, 5))
Function = Callable[..., Any]
HALVES = ("float16", "bfloat16")


@pytest.fixture(params=HALVES)
def half(request: pytest.FixtureRequest) -> str:
    if request.param == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="needs ml_dtypes, of .ci/run's parity stage")
    return str(request.param)


def linear(x: Array, W: Array) -> Any:
    return x @ W.T, lambda dy: (dy @ W, dy.T @ x)


def in_half_alone(function: Function, change: Callable[[Array], Array] = lambda g: g) -> Function:
    """A kernel that takes nothing else, and changes its gradients in float64 before it rounds them."""

    def kernel(*inputs: Array) -> Any:
        dtype = inputs[0].dtype
        if dtype not in map(dtype_of, ("float16", *(["bfloat16"] if dtype.name == "bfloat16" else []))):
            raise TypeError(f"expected half precision, got {dtype}")
        y, backward = function(*(x.astype(np.float32) for x in inputs))

        def pull(dy: Array) -> Any:
            found = backward(dy.astype(np.float32))
            parts = found if isinstance(found, tuple) else (found,)
            return tuple(change(g.astype(np.float64)).astype(dtype) for g in parts)

        return np.asarray(y).astype(dtype), pull

    return kernel


RIGHT: dict[str, tuple[Function, tuple[Array, ...]]] = {
    "gelu_tanh": (F.gelu_tanh, (X,)),
    "softmax": (F.softmax, (X,)),
    "linear": (linear, (X, W)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_kernel_passes_and_a_factor_of_1_01_fails_by_name(name: str, half: str) -> None:
    function, inputs = RIGHT[name]
    report = gradcheck(function, *inputs, dtype=half)
    assert report, str(report)
    assert "in float64 its formula passes at the same numbers" in report.notes and report.rows[0].method == half
    assert gradcheck(in_half_alone(function), *inputs, dtype=half, reference=function)
    for factor in (1.01, 0.99):
        wrong = gradcheck(in_half_alone(function, lambda g, c=factor: c * g), *inputs, dtype=half, reference=function)
        assert wrong.rows[0].verdict == "FAIL" and "a constant factor " in wrong.rows[0].note, str(wrong)
    third = gradcheck(in_half_alone(function, lambda g: 3 * g), *inputs, dtype=half, reference=function)
    assert third.rows[0].note.startswith("a constant factor 3")


def test_a_reference_may_return_its_value_alone(half: str) -> None:
    def value(x: Array) -> Any:
        return F.gelu_tanh(x)[0]

    assert gradcheck(in_half_alone(F.gelu_tanh), X, dtype=half, reference=value)
    wrong = gradcheck(in_half_alone(F.gelu_tanh, lambda g: 1.01 * g), X, dtype=half, reference=value)
    assert wrong["x"].verdict == "FAIL"


def test_a_formula_that_is_wrong_is_named_in_float64(half: str) -> None:
    def halved(x: Array) -> Any:
        return np.sin(x), lambda dy: dy * np.cos(x) / 2

    report = gradcheck(halved, X, dtype=half)
    assert report["x"].note == "a constant factor 0.5 (1/2)" and report["x"].method == "complex"
    nothing = gradcheck(in_half_alone(F.softmax, lambda g: 0 * g), X, dtype=half, reference=F.softmax)
    assert nothing.verdict == nothing["x"].verdict == "DETACHED" and nothing["x"].note.startswith("all zero")


def test_wrong_elements_and_numbers_too_large_fail(half: str) -> None:
    def one(g: Array) -> Array:
        g[1, 2] += 0.3 * np.abs(g).max()
        return g

    report = gradcheck(in_half_alone(F.softmax, one), X, dtype=half, reference=F.softmax)
    assert report["x"].worst.index == (1, 2) and report["x"].note.startswith("wrong at one element, [1, 2]")
    lost = gradcheck(in_half_alone(F.softmax, lambda g: g + np.inf), X, dtype=half, reference=F.softmax)
    assert "nan or inf at 15 of 15" in lost["x"].note


def test_what_each_call_draws_anew_is_in_the_bar(half: str) -> None:
    """A kernel that adds in another order each time, as atomics do."""
    draws = np.random.default_rng(1)

    def shuffled(g: Array) -> Array:
        return g * (1 + 1e-2 * draws.standard_normal(g.shape))

    report = gradcheck(in_half_alone(F.softmax, shuffled), X, dtype=half, reference=F.softmax)
    assert report["x"].verdict == "PASS" and report["two forwards give the same bits"].verdict == "FAIL"
    draws = np.random.default_rng(1)
    wrong = gradcheck(in_half_alone(F.softmax, lambda g: 1.03 * shuffled(g)), X, dtype=half, reference=F.softmax)
    assert wrong["x"].verdict == "FAIL"


def test_a_module_is_rounded_once_its_frozen_parameters_too() -> None:
    layer = Linear(5, 2, rng=0)
    layer.bias.data = np.array([0.1, 0.3])
    layer.bias.requires_grad = False
    assert gradcheck(layer, X, dtype="float16", reference=layer)
    bench = Subject(layer, (X,), {"rng": X}, None, "float16").exact.at(np.float64)
    assert np.array_equal(bench.parameters["bias"].data, np.float16(layer.bias.data))
    assert np.array_equal(bench.keywords["rng"], np.float16(X)) and np.array_equal(bench.arrays["x"], np.float16(X))
    with pytest.raises(TypeError, match=r"must have its parameters \(weight, bias\); got none"):
        gradcheck(layer, X, dtype="float16", reference=F.softmax)


def test_how_far_a_factor_is_known() -> None:
    p = precision_of("float16")
    n = np.array([[1.0, -2.0], [1.0, -2.0], [1.0, -2.0], [1.0, -2.0]])
    none = np.zeros((1, 2))
    assert _measure(n, n, none, p).verdict == ("PASS", "")
    assert _measure(1.01 * n, n, none, p).factor == pytest.approx(0.01)
    assert _measure(n, n, none, p).known == pytest.approx(p.u + 4 * p.least * 12 / 20)
    assert _measure(n, n, none, p).caught == pytest.approx(4 * p.u + 2 * p.least)
    assert _measure(n, n, 0.01 * n[:1], p).caught == pytest.approx(4 * 0.01 + 2 * p.least)
    assert _measure(n, n, 0.01 * n[:1], p).known == pytest.approx(0.01, rel=1e-2)
    assert "hides a factor from" in _measure(n, n, 0.01 * n[:1], p).verdict[1]
    assert _measure(0 * n, 0 * n, none, p).verdict[0] == "VACUOUS"
    noisy = _measure(n + np.array([[0.1, 0], [-0.1, 0], [0.1, 0], [-0.1, 0]]), n, none, p)
    assert noisy.factor == pytest.approx(0) and noisy.known == pytest.approx(5 * 0.2 / 20, rel=2e-2)


def single(factor: float) -> Function:
    """A kernel of float32 alone, in which a mean leaves the forward's differences next to nothing."""

    def kernel(x: Array) -> Any:
        if x.dtype != np.float32:
            raise RuntimeError("expected scalar type Float")
        y = np.float32(1e3) + np.tanh(x).mean(dtype=np.float32)
        return y, lambda dy: np.float32(factor) * dy * (1 - np.tanh(x) ** 2) / np.float32(x.size)

    return kernel


def test_a_kernel_of_float32_alone_is_judged_by_its_reference() -> None:
    x = rng.standard_normal((8, 9)).astype(np.float32)

    def value(x: Array) -> Any:
        return 1e3 + np.tanh(x).mean()

    assert gradcheck(single(1), x, dtype="float32", reference=value)
    report = gradcheck(single(3), x, dtype="float32", reference=value)
    assert report["x"].verdict == "FAIL" and report["x"].note.startswith("a constant factor 3")


@pytest.mark.parametrize("method", ["auto", "dot-product"])
def test_an_error_in_single_precision_alone_is_no_rounding(method: str) -> None:
    def in_single(factor: float) -> Function:
        def function(x: Array) -> Any:
            y, backward = F.softmax(x)
            return y, lambda dy: backward(dy) * (np.float32(factor) if x.dtype == np.float32 else 1)

        return function

    for factor in (3, 1.01):
        report = gradcheck(in_single(factor), X, dtype="float32", method=method)
        assert report.verdict == "FAIL", str(report)
        assert method != "auto" or report["x"].note.startswith(f"a constant factor {factor}")
    assert gradcheck(in_single(1), X, dtype="float32", method=method)


def test_without_a_reference_all_elements_together_show_what_none_does() -> None:
    def noisy(factor: float) -> Function:
        """The kernel for arrays of any precision, rounded inside."""

        def function(x: Array) -> Any:
            if x.dtype.kind == "c":
                raise TypeError("single precision alone")
            y, backward = single(factor)(x.astype(np.float32))
            return y, lambda dy: backward(np.float32(dy))

        return function

    x = rng.standard_normal((8, 9)).astype(np.float32)
    for seed in range(3):
        wrong = gradcheck(noisy(3), x, dtype="float32", seed=seed)["x"]
        assert wrong.verdict == "FAIL" and "along its own signs the slope is " in wrong.note, wrong
        assert gradcheck(noisy(1), x, dtype="float32", seed=seed)["x"].verdict == "UNRESOLVED"


def test_what_cannot_be_checked_says_what_to_do() -> None:
    with pytest.raises(
        TypeError, match=r"does not run in float64, .*: pass reference=, the same function in NumPy"
    ) as told:
        gradcheck(in_half_alone(F.softmax), X, dtype="float16")
    assert str(told.value.__cause__) == "expected half precision, got float64"
    with pytest.raises(ValueError, match=r"the shapes \[\(3, 5\)\]; the reference returned \[\(\)\]"):
        gradcheck(F.softmax, X, reference=lambda x: x.sum())
    with pytest.raises(TypeError, match="the forward returned a NoneType, expected floating"):
        gradcheck(in_half_alone(F.softmax), X, dtype="float16", reference=lambda x: None)
    with pytest.raises(ValueError, match=r"dtype must be one of float64, float32, .*; got 'bf16'"):
        gradcheck(F.softmax, X, dtype="bf16")
    with pytest.raises(TypeError, match="reference must be a function, called as the layer is; got int"):
        gradcheck(F.softmax, X, reference=3)
    with pytest.raises(ValueError, match="x holds numbers too large for float16"):
        gradcheck(lambda x: (x, lambda dy: dy), 1e6 * X, dtype="float16")
    with pytest.raises(ValueError, match="steps are taken in float64 or float32, not in float16"):
        gradcheck(F.softmax, X, dtype="float16", steps=2)
