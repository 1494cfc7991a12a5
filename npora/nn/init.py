"""Initial values, all drawn from a Generator that is passed in."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from npora.nn.module import Array


class Unset:
    """An Unset stands for a Generator where values are loaded later: it gives zeros, which take no memory till then.

    numbers, arrays : the most that are given out, where a file decides how many are asked for; what : and whose these
        are, for the error

    Raises
    ------
    ValueError: more is asked for.
    """

    def __init__(self, numbers: float = math.inf, arrays: float = math.inf, what: str = "") -> None:
        self._numbers, self._arrays, self._what = numbers, arrays, what

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Give zeros of this shape, of what is left."""
        if min(shape) < 0:
            raise ValueError(f"an array cannot have the shape {shape}")
        self._numbers -= math.prod(shape)
        self._arrays -= 1
        if self._numbers < 0 or self._arrays < 0:
            raise ValueError(f"with an array of shape {shape} this is more, by far, than {self._what}")
        return np.zeros(shape, dtype=dtype)


Source = np.random.Generator | Unset
Seed = Source | int | None


def default_rng(rng: Seed) -> Source:
    """Return the Generator itself, or one from a seed, which is 0 unless given, so that a layer is reproducible."""
    if isinstance(rng, np.random.Generator | Unset):
        return rng
    return np.random.default_rng(0 if rng is None else rng)


def normal(rng: Source, shape: tuple[int, ...], std: float, dtype: npt.DTypeLike = np.float32) -> Array:
    """Draw from N(0, std²), as BERT's and GPT-2's weights start (std 0.02)."""
    if isinstance(rng, Unset):
        return rng.zeros(shape, dtype)
    return (rng.standard_normal(shape) * std).astype(dtype)


def kaiming_uniform(rng: Source, shape: tuple[int, int], dtype: npt.DTypeLike = np.float32) -> Array:
    """Draw a weight [o,i] from U(±1/√i): torch's and PEFT's `kaiming_uniform_(a=√5)` (He et al., 2015)."""
    if isinstance(rng, Unset):
        return rng.zeros(shape, dtype)
    bound = 1 / math.sqrt(shape[1]) if shape[1] else 0.0
    return rng.uniform(-bound, bound, shape).astype(dtype)
