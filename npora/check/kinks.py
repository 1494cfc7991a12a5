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
    h = reach, reach/16 and reach/256, and counts where it stands clear of the rounding, 4 noise/h at the most, and one
    of the two slopes stays, too: it is rounding that moves both.
    """
    wide, near = one_sided(function, reach), one_sided(function, reach / 16)
    jump, rounding = near[1] - near[0], 16 * noise / (reach / 16)
    stays = any(abs(w - n) <= max(abs(jump) / 4, rounding) for w, n in zip(wide, near, strict=True))
    if not stays or not abs(jump) > max(rounding, abs(wide[1] - wide[0]) / 2):
        return None
    left, right = one_sided(function, reach / 256)
    return near if abs(right - left) + 16 * rounding > abs(jump) / 2 else None
