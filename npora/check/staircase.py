"""Is it rounding that φ shows between points far apart, or curvature? Only rounding makes a staircase."""

from __future__ import annotations

import math
from collections.abc import Callable

WIDTH = 2.0**-14  # a number that is moved by that share of itself passes 512 of single precision
NEAR = 2.0**-40  # seldom as far as the next step
FINEST = 2.0**-47  # some ulps of double precision
HALVINGS = 6  # over which a smooth change falls to 1/64, and that at a step to no less than 1/4
BESIDE = 2.0 ** (HALVINGS + 1) * FINEST  # so far from a pole it is smooth


def height_of_steps(function: Callable[[float], float], noise: float) -> float:
    """How high a step of φ is between t = 0 and WIDTH, if it has several that stand clear of the `noise` at 0; or 0.

    Single precision inside a forward makes a staircase of φ: points 1e-7 apart show how high its steps are, and those
    1e-13 apart stand on one step, and see neither noise nor slope. A φ that bends within 1e-7, as beside a singular
    matrix, looks as rough between points 1e-7 apart, and yet is smooth, or has a single jump, as a factor's sign does.
    """
    slope = (function(NEAR) - function(0.0)) / NEAR
    place, height = _step(function, slope, noise, 0.0, WIDTH)
    if not height:
        return 0.0
    others = (
        _step(function, slope, noise, left, right)[1]
        for left, right in ((0.0, place - BESIDE), (place + BESIDE, WIDTH))
        if right > left
    )
    return height if any(others) else 0.0


def _step(
    function: Callable[[float], float], slope: float, noise: float, left: float, right: float
) -> tuple[float, float]:
    """Where φ has a step between left and right, and how high it is: 0 where there is none. What φ changes by,

        e(l, r) = φ(r) − φ(l) − φ′(0) (r − l)

    beyond its slope at 0, stays at a step, and falls as r − l does where φ is smooth, while [l, r] is halved, time after time, into the half
    with the larger |e|. No half is gone into that ends out of φ's domain.
    """
    low, high = function(left), function(right)
    changes = []
    while right - left > FINEST:
        middle = (left + right) / 2
        value = function(middle)
        before, after = (abs(rise - slope * (right - middle)) for rise in (value - low, high - value))
        if after > before:
            left, low = middle, value
        else:
            right, high = middle, value
        changes.append(after if after > before else before)
    if len(changes) <= HALVINGS:
        return left, 0.0
    before, height = changes[-1 - HALVINGS], changes[-1]
    return left, height if max(16 * noise, before / 4) < height < 4 * before < math.inf else 0.0
