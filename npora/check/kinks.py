"""Where no derivative exists: the slopes to the left and to the right."""

from __future__ import annotations

from collections.abc import Callable

REACH = 2.0**-30  # about 1e-9 of the coordinate: a kink farther away is no matter for an exact oracle


def one_sided(function: Callable[[float], float], h: float) -> tuple[float, float]:
    """(φ(0) − φ(−h))/h and (φ(h) − φ(0))/h."""
    here = function(0.0)
    return (here - function(-h)) / h, (function(h) - here) / h


def kink(function: Callable[[float], float], noise: float, reach: float = REACH) -> tuple[float, float] | None:
    """The slopes to the left and right, where they differ for good within `reach`; else None.

    For a smooth φ their difference h φ″ falls with h, at a kink it stays (a jump makes it grow). It is looked at for
    h = reach and reach/16, and counts where it stands clear of the rounding, 4 noise/h at the most.
    """
    left, right = one_sided(function, reach)
    near_left, near_right = one_sided(function, reach / 16)
    wide, narrow = right - left, near_right - near_left
    if abs(narrow) > 16 * noise / (reach / 16) and abs(narrow) > abs(wide) / 2:
        return near_left, near_right
    return None
