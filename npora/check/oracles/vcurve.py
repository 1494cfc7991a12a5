"""Error against step size for each way of taking a derivative: why the step of a difference cannot be chosen well."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from npora.check.inputs import generator
from npora.check.oracles.complex_safe import unsafe_operation
from npora.check.oracles.complex_step import complex_step
from npora.check.oracles.richardson import phi
from npora.check.outputs import Outputs
from npora.check.subject import Bench, Subject
from npora.nn.module import Array
from npora.nn.readable import Readable

STEPS = tuple(10.0**-k for k in range(1, 17))
ELEMENTS = 40

# (weights of φ at multiples of h), over h
FORMULAS: dict[str, tuple[tuple[float, float], ...]] = {
    "forward": ((1, 1), (0, -1)),
    "central": ((1, 1 / 2), (-1, -1 / 2)),
    "five-point": ((2, -1 / 12), (1, 8 / 12), (-1, -8 / 12), (-2, 1 / 12)),
    # (64 D(h/4) − 20 D(h/2) + D(h)) / 45: two Richardson columns of central differences
    "Richardson": (
        (1 / 4, 128 / 45), (-1 / 4, -128 / 45), (1 / 2, -20 / 45), (-1 / 2, 20 / 45), (1, 1 / 90), (-1, -1 / 90),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class VCurve(Readable):
    """errors : by 'method float64' and 'method float32', the norm of the error over the gradient's, for each step."""

    steps: tuple[float, ...]
    errors: dict[str, tuple[float, ...]]

    def __str__(self) -> str:
        lines = []
        for dtype in dict.fromkeys(name.rpartition(" ")[2] for name in self.errors):
            shown = {name: values for name, values in self.errors.items() if name.endswith(f" {dtype}")}
            lines += [f"in {dtype}", "h".rjust(8) + "".join(name.rpartition(" ")[0].rjust(12) for name in shown)]
            for k, h in enumerate(self.steps):
                lines.append(f"{h:8.0e}" + "".join(f"{values[k]:12.1e}" for values in shown.values()))
            least = (min(filter(math.isfinite, values), default=math.nan) for values in shown.values())
            lines += ["    best" + "".join(f"{value:12.1e}" for value in least), ""]
        return "\n".join(lines[:-1])


def v_curve(layer: Any, *inputs: Any, seed: int = 0, **keywords: Any) -> VCurve:
    """The error of every formula at h = 0.1 … 1e-16, over at most 40 coordinates, against the complex step at 1e-20.

    Truncation grows with h (as h for forward, h² central, h⁴ five-point, h⁶ Richardson), rounding with u/h; the V
    between them has its tip near u^(1/2), u^(1/3), u^(1/5), u^(1/7). The complex step has no second branch. float32
    is evaluated in float32 throughout (complex64 for the complex step, nan where a layer does not take that).
    """
    rng = generator(seed)
    subject = Subject(layer, inputs, keywords, None, np.float32, rng)
    outputs = subject.at(np.float64).outputs()
    dy = tuple(np.asarray(rng.standard_normal(y.shape)) for y in outputs)
    places = [(name, index) for name, x in subject.point.items() for index in np.ndindex(x.shape)]
    chosen = [places[int(k)] for k in rng.permutation(len(places))[:ELEMENTS]]
    exact_bench = subject.at(np.complex128)
    if operation := unsafe_operation(subject):
        raise ValueError(f"the errors are against complex steps, and this forward is not complex-safe: {operation}")
    exact = np.array([complex_step(exact_bench, dy, name, [index])[0] for name, index in chosen])
    if not exact.any():
        raise ValueError("the gradient is zero at every coordinate: there is no error relative to it")
    errors = {}
    for dtype, complex_dtype in ((np.float64, np.complex128), (np.float32, np.complex64)):
        bench = subject.at(dtype)
        for name, weights in FORMULAS.items():
            errors[f"{name} {np.dtype(dtype)}"] = tuple(
                _error([_difference(bench, dy, place, h, weights) for place in chosen], exact) for h in STEPS
            )
        errors[f"complex {np.dtype(dtype)}"] = _complex_errors(subject.at(complex_dtype), dy, chosen, exact)
    return VCurve(STEPS, errors)


Place = tuple[str, tuple[int, ...]]


def _difference(bench: Bench, dy: Outputs, place: Place, h: float, weights: tuple[tuple[float, float], ...]) -> float:
    x, index = bench.arrays[place[0]], place[1]
    value, total = x[index], 0.0
    for multiple, weight in weights:
        x[index] = value + bench.dtype.type(multiple * h)
        total += weight * phi(bench, dy)
    x[index] = value
    return total / h


def _complex_errors(bench: Bench, dy: Outputs, chosen: list[Place], exact: Array) -> tuple[float, ...]:
    def at(h: float) -> float:
        found = []
        for name, index in chosen:
            x = bench.arrays[name]
            value = x[index]
            x[index] = value + 1j * h
            try:
                found.append(sum(float(np.sum(w * y.imag)) for w, y in zip(dy, bench.outputs(), strict=True)) / h)
            except (TypeError, ValueError):
                return math.nan
            finally:
                x[index] = value
        return _error(found, exact)

    return tuple(at(h) for h in STEPS)


def _error(found: list[float], exact: Array) -> float:
    return float(np.linalg.norm(np.array(found) - exact) / np.linalg.norm(exact))
