"""Rotary position embedding: a position as an angle."""

from __future__ import annotations

import numpy as np

from npora.nn.module import Array, Pullback


def rotary(x: Array, positions: Array, heads: int, theta: float = 10000.0) -> tuple[Array, Pullback]:
    """Turn each pair of a head's features by an angle that grows with the position (Su et al., 2021).

    x [n,h·d]  positions int [n]  →  y [n,h·d]. Pair j of a head is (x_j, x_{j+d/2}), the halves, as in Llama; its angle
    at position p is φ = p θ^(−2j/d):

        y₁ = x₁ cos φ − x₂ sin φ        dx₁ = dy₁ cos φ + dy₂ sin φ
        y₂ = x₂ cos φ + x₁ sin φ        dx₂ = dy₂ cos φ − dy₁ sin φ

    A rotation's transpose is the rotation back. Scores q·k then see only the difference of two positions.

    Raises
    ------
    ValueError: the head width is odd.
    """
    n, width = x.shape
    d = width // heads
    if d % 2:
        raise ValueError(f"rotary takes heads of even width; {width} features in {heads} heads are {d} each")
    angle = positions[:, None] * theta ** (-np.arange(0, d, 2) / d)  # [n,d/2], in float64 whatever x is
    real = x.real.dtype
    cos, sin = np.cos(angle).astype(real)[:, None], np.sin(angle).astype(real)[:, None]  # [n,1,d/2]

    def turned(x: Array, sin: Array) -> Array:
        halves = x.reshape(n, heads, 2, d // 2)  # [n,h·d] → [n,h,2,d/2]
        y = np.empty_like(halves)
        y[:, :, 0] = halves[:, :, 0] * cos - halves[:, :, 1] * sin
        y[:, :, 1] = halves[:, :, 1] * cos + halves[:, :, 0] * sin
        return y.reshape(n, width)

    return turned(x, sin), lambda dy: turned(dy, -sin)
