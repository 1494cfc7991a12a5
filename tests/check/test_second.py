"""order=2: a gradient's own derivative is symmetric, and no backward keeps as a constant what is none."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.check.bridges import jax_vjp, torch_function
from npora.check.inputs import and_dy
from npora.nn import Linear
from npora.nn import functional as F
from npora.nn.module import Array

X = np.random.default_rng(0).standard_normal((3, 4))
SYMMETRY = "⟨u, H v⟩ = ⟨v, H u⟩"


def turned(error: float) -> Any:
    """A gradient with a part that no function has: its derivative is not symmetric."""
    return lambda x: (np.sum(x**3), lambda dy: dy * (3 * x**2 + error * np.roll(x, 1, axis=0) ** 2))


def test_the_hessian_of_a_right_gradient_is_symmetric_and_of_a_turned_one_not() -> None:
    assert gradcheck(F.softmax, X, order=2)[SYMMETRY].verdict == "PASS"
    assert gradcheck(Linear(4, 2, rng=0), X, order=2)[SYMMETRY].verdict == "PASS"
    assert gradcheck(lambda x: (2 * x, lambda dy: 2 * dy), X, order=2)  # H is zero
    at_rest = gradcheck(lambda x: (np.sum(x * x), lambda dy: 2 * dy * x), np.zeros(3), order=2)
    assert at_rest[SYMMETRY].verdict == "PASS"  # its gradient is zero there, and H is not
    for error in (1.0, 1e-6):
        row = gradcheck(turned(error), X, order=2)[SYMMETRY]
        assert row.verdict == "FAIL" and "the gradient of no function" in row.note
        assert row.worst is not None and row.worst.ratio > 1 and abs(row.worst.analytic - row.worst.numeric) > error / 9
    assert gradcheck(turned(0.0), X, order=2) and SYMMETRY not in {row.name for row in gradcheck(turned(0), X).rows}
    rough = gradcheck(lambda x: (np.sin(1e9 * x), lambda dy: 1e9 * np.cos(1e9 * x) * dy), X, order=2)
    assert rough[SYMMETRY].verdict in ("UNRESOLVED", "PASS")


def test_an_order_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match="order must be 1 or 2; got 3"):
        gradcheck(F.softmax, X, order=3)

    def single(x: Array) -> Any:
        if x.dtype != np.float32:
            raise TypeError(x.dtype)
        return x, lambda dy: dy

    with pytest.raises(ValueError, match="order=2 is looked at in float64, in which single does not run") as told:
        gradcheck(single, np.float32(X), dtype="float32", reference=lambda x: x, order=2)
    assert str(told.value.__cause__) == "float64"


def test_a_torch_backward_that_kept_what_it_should_not_is_named() -> None:
    torch = pytest.importorskip("torch", reason="needs torch, of .ci/run's parity stage")

    class Exp(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any, k: Any) -> Any:
            y = torch.exp(x) * k
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return dy * ctx.saved_tensors[0], None

    class Kept(Exp):
        @staticmethod
        def forward(ctx: Any, x: Any, k: Any) -> Any:
            ctx.y = torch.exp(x) * k
            return ctx.y.clone()

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return dy * ctx.y, None

    k = np.array(2)
    assert gradcheck(torch_function(Exp), X, k, order=2) and gradcheck(torch_function(Kept), X, k)
    report = gradcheck(torch_function(Kept), X, k, order=2)
    assert report["second order: x"].verdict == "DETACHED" and report["second order: dy[0]"].verdict == "PASS"
    assert report["x"].verdict == report[SYMMETRY].verdict == "PASS"
    assert gradcheck(torch_function(lambda x, s: (torch.sin(x) * s["a"], x.argmax())), X, {"a": X}, order=2)


def test_a_jax_rule_is_differentiated_again() -> None:
    jax = pytest.importorskip("jax", reason="needs jax, of .ci/run's parity stage")

    @jax.custom_vjp
    def cube(x: Any) -> Any:
        return x**3

    cube.defvjp(lambda x: (x**3, x), lambda x, g: (3 * g * jax.lax.stop_gradient(x) ** 2,))
    assert gradcheck(jax_vjp(cube), X)
    report = gradcheck(jax_vjp(cube), X, order=2)
    assert report["second order: x"].verdict == "DETACHED" and report["second order: dy[0]"].verdict == "PASS"
    assert gradcheck(jax_vjp(lambda x, s: {"y": jax.numpy.sin(x) * s["a"]}), X, {"a": X}, order=2)
    assert gradcheck(jax_vjp(jax.numpy.sin), X, order=2), "its input is given by place alone"


def test_what_is_given_by_place_stands_before_dy() -> None:
    def f(x: Any, /, k: int = 2, *rest: Any, s: float = 1.0) -> Any:
        return x

    assert [*and_dy(inspect.signature(f)).parameters] == ["x", "k", "dy"]
    assert {p.default for p in and_dy(inspect.signature(f)).parameters.values()} == {inspect.Parameter.empty}
