"""Dropout: randomness is an input."""

from __future__ import annotations

import numpy as np

from npora.nn.module import Array, Module, Pullback


def dropout(x: Array, p: float, rng: np.random.Generator | None) -> tuple[Array, Pullback]:
    """y = m ⊙ x / (1 − p), where each m is 1 with probability 1 − p and else 0;  dx = m ⊙ dy / (1 − p).

    With p = 0, or without a Generator, y is x itself.

    The draw does not depend on x's dtype, so the same seed drops the same elements in every precision. Sixteen random
    bits decide an element, a quarter of the time of a random number each: p counts as the nearest multiple of 2⁻¹⁶.
    """
    if rng is None or p == 0:
        return x, _identity
    drop = round(p * 2**16)
    if drop == 2**16:
        keep, scale = np.zeros(x.shape, dtype=bool), 0.0
    else:
        words = rng.integers(2**64, size=-(-x.size // 4), dtype=np.uint64)
        keep, scale = (words.view(np.uint16)[: x.size] >= drop).reshape(x.shape), 1 / (1 - drop / 2**16)
    return x * keep * scale, lambda dy: dy * keep * scale


class Dropout(Module):
    """y = dropout(x, p, rng) (Srivastava et al., 2014).

    Raises
    ------
    ValueError: p is not in [0, 1]; or the module was put in `train()` mode and no `rng` is given.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"a dropout probability lies in [0, 1]; got {p}")
        self.p = p

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        return dropout(x, self.p, active_rng(self, self.p, rng))


def active_rng(module: Module, p: float, rng: np.random.Generator | None) -> np.random.Generator | None:
    """Return the Generator to drop out with, or None where nothing is dropped."""
    if p == 0:
        return None
    if rng is None and module.training:
        raise ValueError(
            "this module is in train() mode, where dropout needs its randomness passed in: call the model with "
            "rng=np.random.default_rng(seed), or call eval() first"
        )
    return rng


def _identity(dy: Array) -> Array:
    return dy
