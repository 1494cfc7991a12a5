"""One function of the corpus before the bench, at some seeds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npora import gradcheck
from npora.nn.module import Array
from tests.corpus.case import RIGHT, WRONG, Function, Right, Source, Wrong
from tests.corpus.referee import floats, gradients, upstream

MATTERS = 1e-6  # the relative error of a gradient from which on it must not pass


@dataclass(frozen=True)
class Judged:
    """error : of the wrong gradient, and rounding : of the right one; both relative to the largest element of their
    tensor, of the tensor where the error is largest beside the rounding."""

    name: str
    seed: int
    verdict: str
    wrong: bool
    error: float = 0.0
    rounding: float = 0.0
    note: str = ""

    @property
    def matters(self) -> bool:
        return self.error > MATTERS

    @property
    def missed(self) -> bool:
        return self.wrong and self.verdict == "PASS" and self.matters

    @property
    def resolvable(self) -> bool:
        """Is the error larger than 1000 times the rounding that was measured?"""
        return self.error > max(MATTERS, 1000 * self.rounding)

    @property
    def size(self) -> str:
        if not self.matters:
            return "below 1e-6"
        return "above 1e-2" if self.error > 1e-2 else "1e-2 to 1e-4" if self.error > 1e-4 else "1e-4 to 1e-6"

    @property
    def said(self) -> str:
        sizes = f"off by {self.error:.1e}, rounding {self.rounding:.1e}; " if self.wrong else ""
        return f"seed {self.seed}: {self.verdict}, {sizes}{self.note}"


def judge(name: str, seeds: Iterable[int], method: str = "auto") -> list[Judged]:
    return [_judged(RIGHT[name] if name in RIGHT else WRONG[name], seed, method) for seed in seeds]


def _judged(case: Right | Wrong, seed: int, method: str) -> Judged:
    own = case.partner if isinstance(case, Wrong) else case
    inputs = own.inputs(seed)
    verdict, note = _verdict(case, inputs, seed, method)
    if not isinstance(case, Wrong):
        return Judged(case.name, seed, verdict, False, note=note)
    error, rounding = measured(case, inputs, seed)
    return Judged(case.name, seed, verdict, True, error, rounding, note)


def _verdict(case: Right | Wrong, inputs: tuple[Any, ...], seed: int, method: str) -> tuple[str, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            report = gradcheck(case.function, *inputs, seed=seed, method=method)
        except Exception as error:  # whatever the bench makes of a function, the others are judged too
            expected = isinstance(case, Wrong) and case.refused and isinstance(error, TypeError | ValueError)
            return "REFUSED" if expected else "RAISED", f"{type(error).__name__}: {error}"
    bad = [row for row in report.rows if row.verdict == report.verdict != "PASS"]
    return report.verdict, "; ".join(f"{row.name}: {row.note}" for row in bad)[:300]


def measured(case: Wrong, inputs: tuple[Any, ...], seed: int) -> tuple[float, float]:
    """The relative error of the wrong gradient, and the rounding of the right one.

    That is the larger of how far it moves with an ulp of its inputs, and how far it is from itself in extended
    precision, where the function runs there (LAPACK does not). The first alone misses what was rounded before it
    cancels: 1 − cos x has the same bits for all x within 1e-12 of 1e-5, and none of the digits of its slope over x² is
    right.
    """
    source = Source("an upstream gradient", seed)
    own = case.partner.function
    with np.errstate(all="ignore"):
        dy = tuple(case.upstream * w for w in upstream(own, inputs, source))
        truth = gradients(own, inputs, dy)
        moved = [_relative(gradients(own, _moved(inputs, source), _moved(dy, source)), truth) for _ in range(4)]
        moved.append(_relative(_extended(own, inputs, dy) or truth, truth))
        roundings = [max(some) for some in zip(*moved, strict=True)]
        if case.error is not None:
            return case.error, max(roundings)
        errors = _relative(gradients(case.function, inputs, dy), truth)
    return max(zip(errors, roundings, strict=True), key=lambda both: both[0] / max(both[1], 1e-16))


def _moved(arrays: tuple[Any, ...], source: Source) -> tuple[Any, ...]:
    chosen = floats(arrays)
    return tuple(
        x * (1 + 2.0**-52 * source.integers(-1, 2, x.shape)) if k in chosen else x for k, x in enumerate(arrays)
    )


def _extended(function: Function, inputs: tuple[Any, ...], dy: tuple[Array, ...]) -> list[Array]:
    chosen = floats(inputs)
    wider = tuple(x.astype(np.longdouble) if k in chosen else x for k, x in enumerate(inputs))
    try:
        return gradients(function, wider, tuple(w.astype(np.longdouble) for w in dy))
    except TypeError:  # of LAPACK
        return []


def _relative(found: list[Array], truth: list[Array]) -> list[float]:
    pairs = list(zip(found, truth, strict=False))
    if len(found) != len(truth) or any(g.shape != t.shape for g, t in pairs):
        return [math.inf] * len(truth)
    return [_share(float(np.abs(g - t).max(initial=0.0)), float(np.abs(t).max(initial=0.0))) for g, t in pairs]


def _share(off: float, size: float) -> float:
    if math.isnan(off):
        return math.inf
    return off / size if size else (math.inf if off else 0.0)
