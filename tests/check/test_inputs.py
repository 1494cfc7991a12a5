"""What gradcheck differentiates by: arrays, and numbers where there is no array; what it would pass over is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npora import gradcheck
from npora.nn import Linear
from npora.nn.module import Array

X = np.random.default_rng(0).standard_normal((2, 3))
moderate = st.floats(-3, 3).filter(lambda x: abs(x) > 0.1)


def square(x: Any) -> Any:
    return x * x, lambda dy: 2 * x * dy


def product(x: Any, y: Any) -> Any:
    return x * y, lambda dy: (dy * y, dy * x)


def power(x: Array, n: float) -> Any:
    return x**n, lambda dy: n * x ** (n - 1) * dy


def test_floats_alone_are_arrays_without_axes() -> None:
    report = gradcheck(square, 3.0)
    assert report and report["x"].shape == () and report["x"].verdict == "PASS"
    assert gradcheck(lambda x: (math.sin(x), lambda dy: math.cos(x) * dy), 3.0)  # which takes no complex number
    assert gradcheck(product, 1.5, -2.5)["y"].verdict == "PASS"
    assert gradcheck(square, np.float32(3)) and gradcheck(square, np.array(3.0))


@settings(deadline=None, max_examples=8)
@given(moderate, moderate, st.sampled_from([0.5, 1.001, -1.0]))
def test_a_wrong_derivative_at_a_number_fails(x: float, y: float, factor: float) -> None:
    assert gradcheck(product, x, y).verdict == "PASS"
    wrong = gradcheck(lambda x, y: (x * y, lambda dy: (factor * dy * y, dy * x)), x, y)
    assert wrong["x"].verdict == "FAIL" and wrong["y"].verdict == "PASS"


def test_beside_an_array_numbers_are_constants() -> None:
    report = gradcheck(power, np.abs(X), 3.0)
    assert report and [row.name for row in report.rows if row.worst is not None] == ["x"]
    assert gradcheck(lambda x, axes: (x.sum(axes[0]), lambda dy: np.broadcast_to(dy, x.shape)), X, [0, 1])


@pytest.mark.parametrize(
    ("function", "inputs", "keywords", "message"),
    [
        (square, (3,), {}, r"given no floating-point array \(int\) .* 3\.0 for 3"),
        (square, ([1.0, 2.0],), {}, r"given no floating-point array \(list\) .* np\.array\(x, float\) for a list"),
        (square, ("abc",), {}, r"given no floating-point array \(str\)"),
        (square, (None,), {}, r"given no floating-point array \(NoneType\)"),
        (square, (np.arange(6).reshape(2, 3),), {}, r"\(int64\[2,3\]\) .* pass x\.astype\(float\)"),
        (square, (np.array(["a"]),), {}, "given no floating-point array"),
        (square, (1j,), {}, "input 0 is complex.* real and imaginary part apart"),
        (square, (), {"x": X}, "keywords are held constant: give x by position"),
        (square, ({"x": X},), {}, "keywords are held constant: give x by position"),
        (square, ((X,),), {}, r"x was given as it came, a structure; .* gradcheck\(f, x, y\)"),  # as torch's is called
        (product, ((X, X),), {}, r"missing a required argument: 'y'. Pass each .* gradcheck\(f, x, y\)"),
        (product, (X, {"y": {"z": [1j, X]}}), {}, r"input 1\['y'\]\['z'\]\[0\] is complex"),
        (
            square,
            (X,),
            {"eps": 1e-6, "atol": 1e-4},
            "unexpected keyword argument 'eps'.* takes no step and no tolerance",
        ),
        (product, (X,), {}, "missing a required argument: 'y'"),
        (square, (X, X), {}, "too many positional arguments"),
        (Linear(3, 2, rng=0), (X,), {"eps": 1e-6}, r"Linear\(x: .* unexpected keyword argument 'eps'"),
    ],
)
def test_what_it_would_pass_over_is_refused(function: Any, inputs: Any, keywords: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        gradcheck(function, *inputs, **keywords)


def test_arrays_of_others_are_refused_by_name() -> None:
    class Tensor:
        def __array__(self, *_: Any, **__: Any) -> Array:
            return X

    with pytest.raises(TypeError, match=r"input 0 is a tests Tensor: .* pass np\.asarray\(x\)"):
        gradcheck(square, Tensor())
    torch = pytest.importorskip("torch", reason="needs the extra `parity`")
    for inputs in ((torch.ones(3),), (X, torch.ones(2, 3))):
        with pytest.raises(TypeError, match="is a torch Tensor"):
            gradcheck(square if len(inputs) == 1 else product, *inputs)


def test_a_failed_check_raises_where_it_is_asked_to() -> None:
    assert gradcheck(square, X, raise_exception=True)
    for method in ("auto", "dot-product"):
        with pytest.raises(AssertionError, match=r"(?s)did not pass.*FAIL.*again: npora.gradcheck"):
            gradcheck(lambda x: (x * x, lambda dy: 3 * x * dy), X, method=method, raise_exception=True)

    def writes(x: Array) -> Any:
        x += 1
        return x, lambda dy: dy

    with pytest.raises(AssertionError, match="mutates an array"):
        gradcheck(writes, X, raise_exception=True)


def test_a_batch_with_a_name_that_is_no_argument_is_a_batch_all_the_same() -> None:
    with pytest.raises(TypeError, match="cannot be called with 0 inputs, x, y, z: got an unexpected keyword"):
        gradcheck(product, {"x": X, "y": X, "z": X})
