"""Initial values, all drawn from a Generator that is passed in."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from npora.nn.module import Array


class Blank:
    """Stands for a Generator where values will be loaded over the initial ones: zeros, no memory until written to."""


Source = np.random.Generator | Blank


def default_rng(rng: Source | int | None) -> Source:
    """The Generator itself, or one from a seed; without either the seed is 0, so that a layer is reproducible."""
    if isinstance(rng, np.random.Generator | Blank):
        return rng
    return np.random.default_rng(0 if rng is None else rng)


def normal(rng: Source, shape: tuple[int, ...], std: float, dtype: npt.DTypeLike = np.float32) -> Array:
    """N(0, std²), as BERT's and GPT-2's weights start (std 0.02)."""
    if isinstance(rng, Blank):
        return np.zeros(shape, dtype=dtype)
    return (rng.standard_normal(shape) * std).astype(dtype)


def kaiming_uniform(rng: Source, shape: tuple[int, int], dtype: npt.DTypeLike = np.float32) -> Array:
    """U(±1/√fan_in) for a weight [o,i]: torch's and PEFT's `kaiming_uniform_(a=√5)` (He et al., 2015)."""
    if isinstance(rng, Blank):
        return np.zeros(shape, dtype=dtype)
    bound = 1 / math.sqrt(shape[1]) if shape[1] else 0.0
    return rng.uniform(-bound, bound, shape).astype(dtype)
