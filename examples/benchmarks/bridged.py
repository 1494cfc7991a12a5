"""Each framework's own functions with planted errors, by its own checker and by npora through a bridge.

    python examples/benchmarks/bridged.py

A torch.autograd.Function by torch.autograd.gradcheck, a JAX custom_vjp by jax.test_util.check_grads, a primitive of
HIPS autograd by its check_vjp, all at their default settings, and by npora's torch_function, jax_vjp and
autograd_function. What is not installed is left out, and said. Exits with 1 where npora misses one, or cries wolf.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from npora import gradcheck
from npora.check.bridges import autograd_function, jax_vjp, torch_function

Array = Any
Judge = Callable[[Any, tuple[Array, ...]], bool]  # does it pass?
rng = np.random.default_rng(0)
X, W = rng.standard_normal((3, 5)), rng.standard_normal((4, 5))
ONE = np.ones((3, 5))
ONE[1, 2] = 1.01

# Forward and backward, with the framework's own functions `xp`.
FUNCTIONS: dict[str, tuple[Any, Any, tuple[Array, ...]]] = {
    "sine": (lambda xp, x: xp.sin(x), lambda xp, dy, x: (dy * xp.cos(x),), (X,)),
    "softmax": (lambda xp, x: _softmax(xp, x), lambda xp, dy, x: (_back_softmax(xp, dy, x),), (X,)),
    "linear": (lambda xp, x, W: x @ W.T, lambda xp, dy, x, W: (dy @ W, dy.T @ x), (X, W)),
}
ERRORS: dict[str, Any] = {
    "right": 1.0, "sign": -1.0, "zero": 0.0, "factor 1.01": 1.01, "factor 1.0009": 1.0009, "factor 1 + 1e-6": 1 + 1e-6,
    "one element by 1 %": ONE,
}  # fmt: skip
TINY = ("right", "sign", "zero", "factor 1.01")  # times 1e-6, as in a mean over many tokens


def _softmax(xp: Any, x: Any) -> Any:
    e = xp.exp(x)
    return e / e.sum(-1)[..., None]


def _back_softmax(xp: Any, dy: Any, x: Any) -> Any:
    p = _softmax(xp, x)
    return p * (dy - (dy * p).sum(-1)[..., None])


def cases() -> Iterator[tuple[str, Any, Any, tuple[Array, ...]]]:
    """name, forward(xp, *x), backward(xp, dy, *x), inputs: the first gradient is the wrong one."""
    for name, (forward, backward, inputs) in FUNCTIONS.items():
        for size, errors in ((1.0, ERRORS), (1e-6, TINY)):
            for error in errors:

                def scaled(xp: Any, *x: Any, f: Any = forward, s: float = size) -> Any:
                    return s * f(xp, *x)

                def wrong(xp: Any, dy: Any, *x: Any, b: Any = backward, s: float = size, c: Any = ERRORS[error]) -> Any:
                    first, *others = b(xp, s * dy, *x)
                    return (first * (c if isinstance(c, float) else xp.asarray(c)), *others)

                yield f"{name}{', tiny' if size != 1 else ''}: {error}", scaled, wrong, inputs


def of_torch() -> tuple[Any, dict[str, Judge]]:
    import torch

    def make(forward: Any, backward: Any) -> Any:
        class Function(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, *x: Any) -> Any:
                context.save_for_backward(*x)
                return forward(torch, *x)

            @staticmethod
            def backward(context: Any, dy: Any) -> Any:
                return backward(torch, dy, *context.saved_tensors)

        return Function

    def own(function: Any, inputs: tuple[Array, ...], fast: bool) -> bool:
        given = tuple(torch.tensor(x, requires_grad=True) for x in inputs)
        return bool(torch.autograd.gradcheck(function.apply, given, fast_mode=fast, raise_exception=False))

    return make, {
        "torch slow": lambda f, x: own(f, x, False),
        "torch fast": lambda f, x: own(f, x, True),
        "npora": lambda f, x: gradcheck(torch_function(f), *x).ok,
    }


def of_jax() -> tuple[Any, dict[str, Judge]]:
    import jax

    jax.config.update("jax_enable_x64", True)
    from jax.test_util import check_grads

    def make(forward: Any, backward: Any) -> Any:
        @jax.custom_vjp
        def function(*x: Any) -> Any:
            return forward(jax.numpy, *x)

        function.defvjp(lambda *x: (forward(jax.numpy, *x), x), lambda x, dy: backward(jax.numpy, dy, *x))
        return function

    def own(function: Any, inputs: tuple[Array, ...]) -> bool:
        try:
            check_grads(function, inputs, order=1, modes=["rev"])
        except AssertionError:
            return False
        return True

    return make, {"JAX": own, "npora": lambda f, x: gradcheck(jax_vjp(f), *x).ok}


def of_autograd() -> tuple[Any, dict[str, Judge]]:
    import autograd.numpy as anp
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_vjp

    def make(forward: Any, backward: Any) -> Any:
        function = primitive(lambda *x: forward(np, *x))

        def vjp(number: int) -> Any:
            return lambda y, *x: lambda dy: backward(anp, dy, *x)[number]

        defvjp(function, vjp(0), vjp(1))
        return function

    def own(function: Any, inputs: tuple[Array, ...]) -> bool:
        try:
            for k, x in enumerate(inputs):
                check_vjp(lambda x, k=k: function(*inputs[:k], x, *inputs[k + 1 :]), x)
        except AssertionError:
            return False
        return True

    return make, {"autograd": own, "npora": lambda f, x: gradcheck(autograd_function(lambda *a: f(*a)), *x).ok}


def main() -> int:
    warnings.simplefilter("ignore")
    missed = 0
    for framework in (of_torch, of_jax, of_autograd):
        try:
            make, judges = framework()
        except ImportError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        found: dict[str, dict[str, bool]] = {name: {} for name in judges}
        for name, forward, backward, inputs in cases():
            function = make(forward, backward)
            for checker, judge in judges.items():
                found[checker][name] = judge(function, inputs)
        for checker, passed in found.items():
            right = {name for name in passed if name.endswith("right")}
            unseen = [name for name, ok in passed.items() if ok and name not in right]
            alarms = sum(not passed[name] for name in right)
            wrong = len(passed) - len(right)
            said = f"caught {wrong - len(unseen)} of {wrong}, false alarms {alarms} of {len(right)}"
            print(f"{framework.__name__[3:]:9} by {checker:11} {said}; missed: {', '.join(unseen) or 'none'}")
            missed += (len(unseen) + alarms) * (checker == "npora")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
