"""What Hypothesis draws: shapes, lengths and flags; the values come from a generator with a drawn seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from npora.nn.module import Array

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(1, 5)


def normal(seed: int, *shape: int) -> Array:
    """Values of size 1 to check derivatives at. No array is constant, where norms have no slope."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def whole(seed: int, *shape: int) -> Array:
    """Whole numbers from −4 to 4 in float32. Sums of products of them are exact in any order of summation, so that an
    algebraic identity must hold bit for bit."""
    return np.random.default_rng([seed, *shape]).integers(-4, 5, shape).astype(np.float32)


@st.composite
def strided(draw: st.DrawFn, *shape: int) -> Any:
    """normal(…) with the strides that slicing, transposing and reversing leave behind."""
    x = normal(draw(seeds), *(2 * size for size in shape))
    x = x[tuple(slice(None, None, draw(st.sampled_from([2, -2]))) for _ in shape)]
    return np.asfortranarray(x) if draw(st.booleans()) else x
