"""What no element shows, since each is too small beside the noise of the forward, all of them together may."""

from __future__ import annotations

import numpy as np

from npora.check.oracles.derivatives import Oracles
from npora.check.oracles.richardson import consistent, direction, unit_of
from npora.nn.module import Array

CLOSE = 1e-2  # what is less may be the rounding of a backward in single precision


def contradiction(oracles: Oracles, name: str, a: Array) -> str:
    """Along v = sign(a) the slope is ⟨a, v⟩ = Σ |a|, the largest that any v of such elements has: how differences
    contradict that; "" where they do not."""
    v = {name: unit_of(oracles.real.arrays[name]) * np.sign(a).astype(np.float64)}
    expected = float(np.sum(a * v[name], dtype=np.float64))
    if oracles.kink_along(v) is not None:
        return ""
    slope, bar = consistent(direction(oracles.real, oracles.dy, v, oracles.here), oracles.noise)
    if not abs(slope - expected) > bar + CLOSE * max(abs(slope), abs(expected)):
        return ""
    return f"along its own signs the slope is {slope:.3g} ± {bar:.1g}, and {expected:.3g} came"
