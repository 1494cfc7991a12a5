"""Where no derivative exists: the slopes to the left and to the right."""

from __future__ import annotations

from collections.abc import Callable

REACH = 2.0**-30  # about 1e-9 of the coordinate: a kink farther away is no matter for an exact oracle
FINEST = 2.0**-42  # of the coordinate, whose own rounding is 2⁻¹¹ of that


def one_sided(function: Callable[[float], float], h: float) -> tuple[float, float]:
    """(φ(0) − φ(−h))/h and (φ(h) − φ(0))/h."""
    here = function(0.0)
    return (here - function(-h)) / h, (function(h) - here) / h


def kink(
    function: Callable[[float], float], noise: float, reach: float = REACH, scale: float = 1.0
) -> tuple[float, float] | None:
    """The slopes to the left and right, where they differ for good within `reach`; else None. scale : of the steps.

    For a smooth φ their difference h φ″ falls with h, at a kink it stays (a jump makes it grow). It is looked at for
    h = reach, reach/16 and reach/256, and counts where it stands clear of the rounding, 4 noise/h at the most, and one
    of the two slopes stays, too: it is rounding that moves both. What bends as sharply as that, like a singular value
    near 0, is smooth all the same: the difference must stay for h as fine as the rounding lets it be seen.
    """
    h = reach * scale
    near = one_sided(function, h / 16)
    jump, rounding = near[1] - near[0], 16 * noise / (h / 16)
    if not abs(jump) > rounding:
        return None  # as nearly everywhere
    wide = one_sided(function, h)
    stays = any(abs(w - n) <= max(abs(jump) / 4, rounding) for w, n in zip(wide, near, strict=True))
    if not stays or not abs(jump) > abs(wide[1] - wide[0]) / 2:
        return None
    left, right = one_sided(function, h / 256)
    if not abs(right - left) + 16 * rounding > abs(jump) / 2:
        return None
    h /= 4096
    while h >= FINEST * scale and 16 * noise / h < abs(jump) / 8:
        left, right = one_sided(function, h)
        if not abs(right - left) > abs(jump) / 4:
            return None
        h /= 16
    return near
