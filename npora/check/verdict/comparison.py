"""From differences to verdicts. Tolerances come from the unit roundoff u and the scale that was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.nn.module import Array

PASS, FAIL, UNRESOLVED, VACUOUS, KINK = "PASS", "FAIL", "UNRESOLVED", "VACUOUS", "KINK"
DETACHED = "DETACHED"  # a FAIL of which nothing came, or zeros throughout
WRONG = (FAIL, DETACHED)

ROUNDING = "ill-conditioned: the difference shrinks with the unit roundoff, as rounding does"
ULPS = "ill-conditioned: an ulp more or less in each operation moves the result as much as the difference"


@dataclass(frozen=True)
class Precision:
    """u; a pullback of npora is off by at most `slack` u of its tensor's largest gradient (measured: 2⁻¹ to 2⁻³ of it);
    `agreement`, the relative difference at which two independent figures are evidence for each other; `least`, the
    smallest number above 0."""

    u: float
    slack: float
    agreement: float
    least: float


PRECISIONS = {
    "float64": Precision(2.0**-53, 2.0**13, 1e-6, 2.0**-1074),
    "float32": Precision(2.0**-24, 2.0**10, 1e-2, 2.0**-149),
    "float16": Precision(2.0**-11, 2.0**4, 1e-2, 2.0**-24),
    "bfloat16": Precision(2.0**-8, 2.0**4, 1e-2, 2.0**-133),
}
HALVES = ("float16", "bfloat16")


def dtype_of(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """The dtype that is named so. bfloat16 is of the package ml_dtypes.

    Raises
    ------
    ValueError: it is none of the four.  ImportError: ml_dtypes is not installed.
    """
    if dtype == "bfloat16":
        try:
            import ml_dtypes
        except ImportError:
            raise ImportError("arrays of bfloat16 need ml_dtypes: pip install ml_dtypes") from None
        found: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return found
    try:
        found = np.dtype(dtype)
    except TypeError:
        raise ValueError(f"dtype must be one of {', '.join(PRECISIONS)}; got {dtype!r}") from None
    precision_of(found)
    return found


def precision_of(dtype: npt.DTypeLike) -> Precision:
    name = np.dtype(dtype).name
    if name not in PRECISIONS:
        raise ValueError(f"dtype must be one of {', '.join(PRECISIONS)}; got {name}")
    return PRECISIONS[name]


def other_precision(dtype: npt.DTypeLike) -> np.dtype[Any]:
    return np.dtype(np.float32 if np.dtype(dtype) == np.float64 else np.float64)


def is_rounding(dtype: npt.DTypeLike, error: float, again: float) -> bool:
    """Is a difference, found in `dtype`, and found `again` in the other precision, nothing but rounding?

    Rounding shrinks with u, a wrong formula does not (Higham, 2002, section 1.10): u is 2e-9 of float32's, and an
    error below 2⁻²² of the one in float32 is rounding in an ill-conditioned place. nan is never rounding.
    """
    double, single = (error, again) if np.dtype(dtype) == np.float64 else (again, error)
    return bool(double < 2.0**-22 * single < np.inf)


@dataclass(frozen=True)
class Comparison:
    """One tensor's gradient, element by element: analytic a, numeric n, their tolerances, and what follows."""

    analytic: Array
    numeric: Array
    tolerance: Array  # the larger of the element's own and the floor that the other tensors set
    beyond: Array  # the tensor's own tolerance; bool, as are the next two
    failed: Array
    unresolved: Array
    zero: bool  # both are zero throughout, or no more than their own rounding, 2⁷ u G or what was measured
    caught: float  # the smallest error, relative to the tensor's largest gradient, that would have been a FAIL

    @property
    def ratio(self) -> Array:
        """|a − n| over its tolerance; nan counts as infinite."""
        difference = np.abs(self.analytic - self.numeric)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(difference == 0, 0.0, difference / self.tolerance)
        return np.where(np.isnan(ratio), np.inf, ratio)

    @property
    def hides(self) -> bool:
        """Is there a difference beyond the tensor's own scale that the floor of the others keeps from a FAIL?"""
        return self.verdict in (VACUOUS, UNRESOLVED) and bool((self.beyond & ~self.failed).any())

    @property
    def verdict(self) -> str:
        if self.failed.any():
            return FAIL
        if self.zero:
            return VACUOUS
        return UNRESOLVED if self.unresolved.any() else PASS


def compare(
    analytic: Array, numeric: Array, bars: Any, everywhere: float, dtype: npt.DTypeLike, rounding: float = np.inf
) -> Comparison:
    """Element by element, with G_T the largest |n| of the tensor, G (`everywhere`) the largest of all tensors, E the
    oracle's own error bar (0 for the complex step), and R the `rounding` of this tensor, where it was measured:

        tolerance = max(E, slack u G_T)

        FAIL        |a − n| > tolerance, and > min(slack u G, R): no rounding anywhere in this pullback is as large
        PASS        |a − n| ≤ tolerance, and either the two agree to `agreement` of |n|, or E and slack u G_T are below
                    that, or one of the two is exactly zero: an element that the formula leaves out
        UNRESOLVED  otherwise: the element is too small for this oracle to tell

    A pullback can be right and yet off by a multiple of u G in a tensor whose own gradients are tiny: there a real
    error and a rounding look alike, so that it is never a PASS, and never a FAIL, unless the tensor's own rounding is
    known to be less.
    """
    p = precision_of(dtype)
    bars = np.broadcast_to(bars, numeric.shape)
    known = np.isfinite(bars)
    numeric = np.where(np.isnan(numeric) & ~known, 0.0, numeric)
    largest = float(np.abs(numeric).max(initial=0.0, where=known))
    floor = min(p.slack * p.u * everywhere, rounding)
    tolerance = np.maximum(bars, p.slack * p.u * largest)
    difference = np.abs(analytic - numeric)
    size = np.abs(numeric)
    failed = ~(difference <= np.maximum(tolerance, floor))  # nan fails
    failed |= ~np.isfinite(analytic)
    agrees = difference <= p.agreement * size
    absent = ((analytic == 0) | (numeric == 0)) & (tolerance <= p.agreement * largest)
    passed = known & (difference <= tolerance) & (agrees | (tolerance <= p.agreement * size) | absent)
    zero = largest <= max(min(2.0**-46 * everywhere, rounding), float(bars.max(initial=0.0, where=known)))
    zero = zero and bool((np.abs(analytic) <= min(2**7 * p.u * everywhere, rounding)).all())
    zero = zero and not (agrees & (size > 0)).all()
    widest = max(float(tolerance.max(initial=0.0)), floor)
    return Comparison(
        analytic,
        numeric,
        np.maximum(tolerance, floor),
        ~(difference <= tolerance),
        failed,
        ~failed & ~passed,
        zero,
        widest / largest if largest else np.inf,
    )
