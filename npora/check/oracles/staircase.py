"""Is it rounding that φ shows between points far apart, or curvature? Only rounding makes a staircase."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

WIDTH = 2.0**-14  # a number that is moved by that share of itself passes 512 of single precision
NEAR = 2.0**-43  # seldom as far as the first step
FINEST = 2.0**-47  # some ulps of double precision
HALVINGS = 6  # over which a smooth change falls to 1/64, and one at a step to no less than 1/4
BESIDE = 2.0 ** (HALVINGS + 1) * FINEST  # so far from a jump or a pole φ is smooth between points FINEST apart


def height_of_steps(function: Callable[[float], float], noise: float) -> float:
    """How high the steps of φ between t = 0 and WIDTH are, where it has several, and higher than `noise` is; or 0.

    Single precision inside a forward makes a staircase of φ: points 1e-7 apart show how high its steps are, and those
    1e-13 apart stand on one step, where neither its noise is seen nor its slope. A φ that bends within 1e-7, as beside
    a singular matrix, looks as rough between points 1e-7 apart, and its bars would be wider than its own rounding by
    what it bends there. But it is smooth between points that are near enough; or it jumps once, as a factor's sign may.
    """
    near = [function(k * NEAR) for k in range(6)]
    slope = sorted(right - left for left, right in pairwise(near))[2] / NEAR  # two of the five may hold a step
    place, height = _step(function, slope, noise, 0.0, WIDTH)
    beside = ((0.0, place - BESIDE), (place + BESIDE, WIDTH))
    several = height and any(_step(function, slope, noise, *ends)[1] for ends in beside if ends[0] < ends[1])
    return height if several else 0.0


def _step(
    function: Callable[[float], float], slope: float, noise: float, left: float, right: float
) -> tuple[float, float]:
    """Where between left and right φ may have a step, and how high that is: 0 if it is none.

    [l, r] is halved, time after time, into the half with the larger |e|,

        e(l, r) = φ(r) − φ(l) − φ′(0) (r − l)

    which falls as r − l does where φ is smooth, and stays at a step (as at a pole, but that is alone). A half that ends
    where φ is not defined is left.
    """
    low, high = function(left), function(right)
    changes = [math.inf] * (HALVINGS + 1)
    while right - left > FINEST:
        middle = (left + right) / 2
        value = function(middle)
        first, second = (abs(rise - slope * (right - middle)) for rise in (value - low, high - value))
        if second > first:
            left, low = middle, value
        else:
            right, high = middle, value
        changes.append(second if second > first else first)
        if changes[-1] <= 16 * noise:
            return left, 0.0
    before, height = changes[-1 - HALVINGS], changes[-1]
    return left, height if before / 4 < height < math.inf else 0.0
