"""Which gradient checker catches what: npora, torch's gradcheck (slow and fast), and check_grads of JAX and autograd.

    python examples/benchmarks/gradcheckers.py [--rounds 3] [--museum]

All are handed the same NumPy functions with the same pullbacks, right and wrong, at their default settings; which of
them are not installed is said. Prints for each wrong pullback who caught it, for each right one who cried wolf, and the
time that each takes for the right ones, in turn, as the median of the rounds. A checker that breaks down gives no
verdict, and is an error. With --museum they are handed the gradients of examples/checking/museum.py instead, which were
wrong in public. `bridged.py` has each framework's own functions, `kernels.py` kernels in half precision.
"""

from __future__ import annotations

import argparse
import runpy
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from npora import gradcheck
from npora.nn import functional as F

Array = Any
Check = Callable[["Case"], str]  # "" for a pass, or the verdict
ERROR = "ERROR"
rng = np.random.default_rng(0)


@dataclass
class Case:
    """function(*inputs) → (y, backward); right says whether backward is."""

    name: str
    function: Callable[..., Any]
    inputs: tuple[Array, ...]
    right: bool

    @property
    def dtype(self) -> Any:
        return self.inputs[0].dtype


def linear(x: Array, W: Array) -> Any:
    return x @ W.T, lambda dy: (dy @ W, dy.T @ x)


def scaled(function: Callable[..., Any], c: float) -> Callable[..., Any]:
    """c f, as in a mean over many tokens."""

    def times(*inputs: Array) -> Any:
        y, backward = function(*inputs)
        s = y.dtype.type(c)
        return s * y, lambda dy: backward(s * dy)

    return times


def broken(function: Callable[..., Any], change: Callable[[Array], Array], which: int = 0) -> Callable[..., Any]:
    """The function, with one of its gradients changed."""

    def wrong(*inputs: Array) -> Any:
        y, backward = function(*inputs)

        def pull(dy: Array) -> Any:
            gradients = backward(dy)
            parts = list(gradients) if isinstance(gradients, tuple) else [gradients]
            parts[which] = np.asarray(change(parts[which]), parts[which].dtype)
            return tuple(parts) if isinstance(gradients, tuple) else parts[0]

        return y, pull

    return wrong


def element(g: Array) -> Array:
    g = g.copy()
    index = np.unravel_index(np.abs(g).argmax(), g.shape)
    g[index] *= 1.01
    return g


def normalize(x: Array) -> Any:
    return F.normalize(x, 1e-5)


def ignoring_dy(x: Array) -> Any:
    return x * x, lambda dy: 2 * x * dy + 0.5


def random_backward(x: Array) -> Any:
    return x * x, lambda dy: 2 * x * dy * (1 + 1e-4 * np.random.default_rng().standard_normal(x.shape))


def lora(x: Array, A: Array, B: Array) -> Any:
    """y = x Aᵀ Bᵀ, with dA too large by a half: at B = 0 it is zero, and every formula passes."""
    u = x @ A.T
    return u @ B.T, lambda dy: (dy @ B @ A, 1.5 * (dy @ B).T @ x, dy.T @ u)


def cases() -> list[Case]:
    def draw(*shape: int, dtype: Any = np.float64) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    smooth = {
        "gelu": (F.gelu_tanh, (draw(4, 5),)),
        "softmax": (F.softmax, (draw(4, 5),)),
        "normalize": (normalize, (draw(4, 5),)),
        "linear": (linear, (draw(4, 5), draw(3, 5))),
        "square matrix": (linear, (draw(5, 5), draw(5, 5))),
        "wide": (F.gelu_tanh, (draw(40, 40),)),
    }
    errors: dict[str, Callable[[Array], Array]] = {
        "sign": lambda g: -g,
        "zero": lambda g: 0 * g,
        "factor 1.01": lambda g: 1.01 * g,
        "factor 1.0009": lambda g: 1.0009 * g,
        "factor 1 + 1e-6": lambda g: (1 + 1e-6) * g,
        "one element by 1 %": element,
        "mean dropped": lambda g: g - g.mean(axis=-1, keepdims=True) / 2,
    }
    found = []
    for name, (function, inputs) in smooth.items():
        found.append(Case(f"{name}", function, inputs, True))
        tiny, single = scaled(function, 1e-6), tuple(x.astype(np.float32) for x in inputs)
        found.append(Case(f"{name}, tiny", tiny, inputs, True))
        found.append(Case(f"{name}, float32", function, single, True))
        for error, change in errors.items():
            if error == "mean dropped" and name in ("softmax", "normalize"):
                continue  # their rows sum to zero: there is no mean to drop
            found.append(Case(f"{name}: {error}", broken(function, change), inputs, False))
            if error in ("sign", "zero", "factor 1.01"):
                found.append(Case(f"{name}, tiny: {error}", broken(tiny, change), inputs, False))
                found.append(Case(f"{name}, float32: {error}", broken(function, change), single, False))
    x, W = smooth["square matrix"][1]
    found.append(Case("square matrix: transposed", broken(linear, lambda g: g.T, 1), (x, W), False))
    found.append(Case("backward ignores dy in part", ignoring_dy, (draw(4, 5),), False))
    found.append(Case("backward is random", random_backward, (draw(4, 5),), False))
    found.append(Case("relu near its kink", F.relu, (np.array([0.7, 1e-7, -1e-7, -2.0]),), True))
    found.append(Case("relu: sign", broken(F.relu, lambda g: -g), (draw(4, 5),), False))
    found.append(Case("large inputs", scaled(linear, 1e6), (1e4 * draw(3, 4), draw(2, 4)), True))
    found.append(
        Case(
            "sine of a fast wave", lambda x: (np.sin(300 * x), lambda dy: 300 * np.cos(300 * x) * dy), (draw(6),), True
        )
    )
    found.append(Case("LoRA at B = 0: dA by a half", lora, (draw(4, 5), draw(2, 5), np.zeros((3, 2))), False))
    return found


def museum() -> list[Case]:
    """The exhibits. A gradient of None is none to the others, and an error is as good as a verdict."""
    exhibits = runpy.run_path(str(Path(__file__).parents[1] / "checking" / "museum.py"))["MUSEUM"]

    def case(exhibit: Any) -> Case:
        def function(*inputs: Array) -> Any:
            y = exhibit.forward(*inputs, **exhibit.constants)
            return y, lambda dy: exhibit.pullback(dy, *inputs, **exhibit.constants)

        return Case(exhibit.source, function, exhibit.inputs, False)

    return [case(exhibit) for exhibit in exhibits]


def by_npora(case: Case) -> str:
    # At B = 0 npora says VACUOUS, and for a parameter of a Module it would move B first: neither is a pass.
    report = gradcheck(case.function, *case.inputs, dtype=case.dtype)
    return "" if report.ok else report.verdict


def torch_checks() -> dict[str, Check]:
    import torch
    from torch.autograd.gradcheck import GradcheckError

    def run(case: Case, fast: bool) -> str:
        class Function(torch.autograd.Function):
            @staticmethod
            def forward(context: Any, *inputs: Any) -> Any:
                y, context.pullback = case.function(*(x.detach().numpy() for x in inputs))
                return torch.from_numpy(np.ascontiguousarray(y))

            @staticmethod
            def backward(context: Any, *dy: Any) -> Any:
                gradients = context.pullback(dy[0].numpy())
                parts = gradients if isinstance(gradients, tuple) else (gradients,)
                return tuple(None if g is None else torch.from_numpy(np.ascontiguousarray(g)) for g in parts)

        inputs = tuple(torch.from_numpy(x.copy()).requires_grad_() for x in case.inputs)
        try:
            torch.autograd.gradcheck(Function.apply, inputs, fast_mode=fast)
        except GradcheckError:
            return "FAIL"
        return ""

    return {"torch slow": lambda case: run(case, False), "torch fast": lambda case: run(case, True)}


def jax_checks() -> dict[str, Check]:
    import jax

    jax.config.update("jax_enable_x64", True)
    from jax.test_util import check_grads

    def run(case: Case) -> str:
        y = case.function(*case.inputs)[0]
        shape = jax.ShapeDtypeStruct(y.shape, y.dtype)
        back = tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in case.inputs)

        def host_forward(*inputs: Any) -> Any:
            return case.function(*map(np.asarray, inputs))[0]

        def host_backward(dy: Any, *inputs: Any) -> Any:
            gradients = case.function(*map(np.asarray, inputs))[1](np.asarray(dy))
            return gradients if isinstance(gradients, tuple) else (gradients,)

        @jax.custom_vjp
        def function(*inputs: Any) -> Any:
            return jax.pure_callback(host_forward, shape, *inputs)

        def forward(*inputs: Any) -> Any:
            return function(*inputs), inputs

        def backward(inputs: Any, dy: Any) -> Any:
            return jax.pure_callback(host_backward, back, dy, *inputs)

        function.defvjp(forward, backward)
        try:
            check_grads(function, case.inputs, order=1, modes=["rev"])
        except AssertionError:
            return "FAIL"
        return ""

    return {"JAX": run}


def autograd_checks() -> dict[str, Check]:
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_vjp

    def run(case: Case) -> str:
        @primitive
        def function(*inputs: Any) -> Any:
            return case.function(*inputs)[0]

        def vjp(number: int) -> Any:
            def of(_: Any, *inputs: Any) -> Any:
                def pull(dy: Any) -> Any:
                    gradients = case.function(*inputs)[1](dy)
                    return gradients[number] if isinstance(gradients, tuple) else gradients

                return pull

            return of

        defvjp(function, *(vjp(k) for k in range(len(case.inputs))))
        try:
            for k in range(len(case.inputs)):

                def alone(x: Any, k: int = k) -> Any:
                    return function(*(x if j == k else value for j, value in enumerate(case.inputs)))

                check_vjp(alone, case.inputs[k])
        except AssertionError:
            return "FAIL"
        return ""

    return {"autograd": run}


def judged(check: Check, case: Case) -> str:
    """What the checker says, or that it could not check the function, which is no verdict."""
    try:
        return check(case)
    except Exception as error:
        print(f"{case.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return ERROR


def seen(exhibits: list[Case], checkers: dict[str, Check]) -> None:
    """Prints who catches which, and how many. What raises an error is caught, too."""
    width = max(len(case.name) for case in exhibits)
    print(f"{'exhibit':{width}}  " + "  ".join(f"{name:>10}" for name in checkers))
    said = {case.name: {name: judged(check, case) for name, check in checkers.items()} for case in exhibits}
    for exhibit, verdicts in said.items():
        print(f"{exhibit:{width}}  " + "  ".join(f"{verdict or 'MISSED':>10}" for verdict in verdicts.values()))
    caught = (sum(verdicts[name] != "" for verdicts in said.values()) for name in checkers)
    print(f"{'caught of ' + str(len(exhibits)):{width}}  " + "  ".join(f"{count:>10}" for count in caught))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--museum", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    checkers: dict[str, Check] = {"npora": by_npora}
    for make in (torch_checks, jax_checks, autograd_checks):
        try:
            checkers |= make()
        except ImportError as error:
            print(f"left out: {error}", file=sys.stderr)
    if len(checkers) == 1:
        sys.exit("nothing was compared: none of torch, jax and autograd is installed")
    if options.museum:
        seen(museum(), checkers)
        return
    found = cases()
    width = max(len(case.name) for case in found)
    print(f"\n{'wrong pullbacks: caught?':{width}}  " + "  ".join(f"{name:>10}" for name in checkers))
    caught = dict.fromkeys(checkers, 0)
    alarms = dict.fromkeys(checkers, 0)
    broken: set[str] = set()
    for right in (False, True):
        if right:
            print(f"\n{'right pullbacks: passed?':{width}}  " + "  ".join(f"{name:>10}" for name in checkers))
        for case in found:
            if case.right is right:
                said = {name: judged(check, case) for name, check in checkers.items()}
                broken |= {name for name, verdict in said.items() if verdict == ERROR}
                for name, verdict in said.items():
                    caught[name] += not right and verdict not in ("", ERROR)
                    alarms[name] += right and verdict in ("FAIL", "KINK")
                words = (verdict or ("pass" if right else "MISSED") for verdict in said.values())
                print(f"{case.name:{width}}  " + "  ".join(f"{word:>10}" for word in words))
    wrong = sum(not case.right for case in found)
    print(f"\n{'caught of ' + str(wrong):{width}}  " + "  ".join(f"{n:>10}" for n in caught.values()))
    print(f"{'false alarms of ' + str(len(found) - wrong):{width}}  " + "  ".join(f"{n:>10}" for n in alarms.values()))
    timed = [case for case in found if case.right and case.dtype == np.float64]
    seconds: dict[str, list[float]] = {name: [] for name in checkers}
    for _ in range(options.rounds):
        for name, check in checkers.items():
            start = time.perf_counter()
            for case in timed:
                judged(check, case)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{'seconds for the right ones in float64':{width}}  " + "  ".join(f"{s:>10.3f}" for s in medians.values()))

    if broken:
        sys.exit(f"{', '.join(sorted(broken))} could not check every function (ERROR): that is no verdict")


if __name__ == "__main__":
    main()
