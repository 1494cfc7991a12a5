"""Other frameworks' gradients get the verdicts, the names and the blame that npora's own get."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora import gradcheck
from npora.check.bridges import autograd_function, jax_vjp, need, torch_function

rng = np.random.default_rng(0)
X = rng.standard_normal((3, 5))
TORCH, JAX, HIPS = (
    {"reason": f"needs {name}, of .ci/run's parity stage"} for name in ("torch", "jax", "autograd")
)  # fmt: skip


def functions(torch: Any) -> tuple[Any, Any]:
    """A torch.autograd.Function, and one whose backward lacks the sum."""

    class Softmax(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            p = torch.softmax(x, -1)
            ctx.save_for_backward(p)
            return p

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            (p,) = ctx.saved_tensors
            return p * (dy - (dy * p).sum(-1, keepdim=True))

    class Wrong(Softmax):
        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            (p,) = ctx.saved_tensors
            return p * dy

    return Softmax, Wrong


def scaled(torch: Any) -> Any:
    """A module whose backward takes a mean where a sum is meant."""

    class Scale(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any, w: Any) -> Any:
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            x, w = ctx.saved_tensors
            return dy * w, (dy * x).mean(0)

    class Scaled(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.arange(1.0, 6.0))

        def forward(self, x: Any) -> Any:
            return Scale.apply(x, self.w)

    return Scaled()


def test_a_torch_function_is_judged_and_named() -> None:
    torch = pytest.importorskip("torch", **TORCH)
    right, wrong = functions(torch)
    assert gradcheck(torch_function(right), X) and gradcheck(
        torch_function(right), X.astype(np.float32), dtype="float32"
    )
    report = gradcheck(torch_function(wrong), X)
    assert "off by a multiple of the output" in report["x"].note and report.subject == "Wrong"
    assert gradcheck(torch_function(lambda x, y: (torch.sin(x) * y["k"], x.argmax())), X, {"k": X + 1})


def test_a_torch_module_keeps_its_names_and_the_blame_falls_on_the_module_inside() -> None:
    torch = pytest.importorskip("torch", **TORCH)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), scaled(torch), torch.nn.LayerNorm(5))
    before = model[0].weight.detach().clone()
    model[0].bias.requires_grad_(False)
    report = gradcheck(torch_function(model), rng.standard_normal((3, 4)), blame=True)
    assert {"0.weight", "2.w", "3.weight", "3.bias"} <= {row.name for row in report.rows}
    assert "0.bias" not in {row.name for row in report.rows}  # it is frozen
    assert [row.name for row in report.rows if row.verdict == "FAIL"] == ["2.w"]
    assert "1/(N, the number of rows)" in report["2.w"].note
    assert any(note.startswith("blame: 2 (Scaled) fails on its own inputs") for note in report.notes)
    assert torch.equal(model[0].weight, before) and model[0].weight.grad is None


def test_what_torch_draws_or_writes_is_found() -> None:
    torch = pytest.importorskip("torch", **TORCH)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Dropout(0.5))
    assert gradcheck(torch_function(model, seed=3), X)
    assert gradcheck(torch_function(model), X)["two forwards give the same bits"].verdict == "FAIL"
    written = gradcheck(torch_function(lambda x: x.mul_(2) * 3), X)
    assert written["nothing given is changed"].note == "<lambda> writes to its input"

    class Doubled(torch.autograd.Function):  # type: ignore[misc,name-defined]
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            return dy.mul_(2)

    assert gradcheck(torch_function(Doubled), X)["nothing given is changed"].note == (
        "the backward of Doubled writes to dy"
    )
    assert gradcheck(torch_function(torch.nn.Embedding(6, 4)), np.array([1, 2, 1]))
    with pytest.raises(TypeError, match=r"expected a torch\.autograd\.Function, .* or a function; got int"):
        torch_function(3)


def test_jax_rules_are_judged() -> None:
    jax = pytest.importorskip("jax", **JAX)

    @jax.custom_vjp
    def sine(x: Any) -> Any:
        return jax.numpy.sin(x)

    sine.defvjp(lambda x: (jax.numpy.sin(x), x), lambda x, g: (2 * g * jax.numpy.cos(x),))
    assert gradcheck(jax_vjp(sine), X)["x"].note == "a constant factor 2 (2)"
    tree = gradcheck(
        jax_vjp(lambda x, w: {"y": jax.numpy.tanh(x @ w["W"]), "at": x.argmax(-1)}),
        X,
        {"W": rng.standard_normal((5, 2))},
    )
    assert tree and "w['W']" in {row.name for row in tree.rows} and tree["x"].method == "complex"


def test_hips_autograd_is_judged() -> None:
    pytest.importorskip("autograd", **HIPS)
    import autograd.numpy as anp
    from autograd.extend import defvjp, primitive

    cube = primitive(lambda x: x**3)
    defvjp(cube, lambda y, x: lambda dy: 3 * x * dy)
    assert gradcheck(autograd_function(lambda x: cube(x)), X)["x"].note == "a factor x is missing"
    assert gradcheck(autograd_function(lambda x, ids, y: anp.tanh(x)[ids] * y), X, np.array([2, 0]), X[:2])


def test_a_framework_that_is_missing_is_named_with_what_to_do() -> None:
    with pytest.raises(ImportError, match="this bridge needs npora_missing: pip install it"):
        need.need("npora_missing", "pip install it")
