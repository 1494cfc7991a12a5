"""The Taylor test: how fast the remainder falls says whether the derivative is right."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from npora.check.inputs import generator
from npora.check.oracles.richardson import moved, norm, phi
from npora.check.subject import Subject
from npora.check.verdict.comparison import FAIL, KINK, PASS, UNRESOLVED, VACUOUS
from npora.nn.readable import Readable

STEPS = tuple(2.0**-k for k in range(3, 22))


@dataclass(frozen=True)
class TaylorResult(Readable):
    """The remainders at every step, and their slopes on logarithmic axes (nan where rounding hides them).

    linear : |2h a| for the widest step, the part of φ(h) − φ(−h) that a accounts for
    """

    steps: tuple[float, ...]
    one_sided: tuple[float, ...]
    centred: tuple[float, ...]
    one_sided_slope: float
    centred_slope: float
    linear: float

    @property
    def verdict(self) -> str:
        """FAIL below 2.5, where a right derivative gives 3; KINK where the slope is 1 one-sided, too, and stays;
        VACUOUS where the pullback gives zero, and rightly so: any formula times zero does."""
        if not self.linear and not self.centred_slope < 2.5:
            return VACUOUS
        if math.isnan(self.centred_slope):  # nothing but rounding is left: of a linear function, or of all of φ
            return PASS if max(self.centred) < 1e-9 * self.linear else UNRESOLVED
        if self.centred_slope >= 2.5:
            return PASS
        return KINK if 1.5 <= self.centred_slope < 2.5 else FAIL

    def __str__(self) -> str:
        lines = [f"{'h':>9}  {'one-sided':>10}  {'centred':>10}"]
        lines += [
            f"{h:9.2e}  {r:10.2e}  {c:10.2e}" for h, r, c in zip(self.steps, self.one_sided, self.centred, strict=True)
        ]
        return "\n".join([
            *lines,
            f"slopes: one-sided {self.one_sided_slope:.3f} (right: 2), centred {self.centred_slope:.3f} (right: 3): "
            f"{self.verdict}.\nA slope of 1 says that the gradient is wrong, a plateau is rounding.",
        ])  # fmt: skip


def taylor_test(
    layer: Any, *inputs: Any, vjp: Callable[..., Any] | None = None, seed: int = 0, **keywords: Any
) -> TaylorResult:
    """The remainders along one Gaussian direction v through all inputs and parameters, with a = ⟨Jᵀ dy, v⟩:

        one-sided   |φ(h) − φ(0) − h a|      falls as h²
        centred     |φ(h) − φ(−h) − 2h a|    falls as h³

    and both as h, where a is wrong. The slope is fitted to the last three points that stand clear of the rounding,
    which makes the centred test about a hundred times as sharp as the usual four large steps (pyadjoint's; Farrell et
    al., 2013): those accept most gradients that are wrong by 1e-4.
    """
    rng = generator(seed)
    subject = Subject(layer, inputs, keywords, vjp, randomize=rng)
    bench = subject.at(np.float64)
    outputs, backward = bench.forward()
    dy = tuple(np.asarray(rng.standard_normal(y.shape)) for y in outputs)
    gradients = {name: np.array(g) for name, g in bench.gradients(backward, dy).items()}
    v = {name: rng.standard_normal(x.shape) for name, x in subject.point.items()}
    a = sum(float(np.sum(gradients[name] * v[name])) for name in v)
    here = phi(bench, dy)
    one_sided, centred = [], []
    for h in STEPS:
        up, down = moved(bench, dy, v, h), moved(bench, dy, v, -h)
        one_sided.append(abs(up - here - h * a))
        centred.append(abs(up - down - 2 * h * a))
    noise = 100 * 2e-15 * max(abs(here), *(norm(w * y) for w, y in zip(dy, outputs, strict=True)))
    slopes = fitted_slope(STEPS, one_sided, noise), fitted_slope(STEPS, centred, noise)
    return TaylorResult(STEPS, tuple(one_sided), tuple(centred), *slopes, abs(2 * STEPS[0] * a))


def fitted_slope(steps: tuple[float, ...], values: list[float], noise: float) -> float:
    """The slope of log value against log step over the last three points above `noise`; nan with fewer."""
    kept = [(math.log(h), math.log(value)) for h, value in zip(steps, values, strict=True) if value > noise]
    if len(kept) < 3:
        return math.nan
    x, y = np.array(kept[-3:]).T
    return float(np.polyfit(x, y, 1)[0])
