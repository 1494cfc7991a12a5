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
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from pullbacks import Case, cases, museum

from npora import gradcheck

Check = Callable[[Case], str]  # "" for a pass, or the verdict
ERROR = "ERROR"


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
