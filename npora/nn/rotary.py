"""Rotary position embedding: a position as an angle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npora.nn.module import Array, Pullback


def rotation(
    positions: Array, d: int, theta: float = 10000.0, dtype: npt.DTypeLike = np.float32
) -> tuple[Array, Array]:
    """(cos φ, sin φ), each [n,1,d/2], of the angles φ = p θ^(−2j/d) of a head's pairs.    positions p, int [n]

    All layers turn by the same angles. They are computed in float64 whatever dtype is: a position may be large.

    Raises
    ------
    ValueError: the head width d is odd.
    """
    if d % 2:
        raise ValueError(f"rotary takes heads of even width, since it turns pairs; got heads of {d} features")
    angle = positions[:, None, None] * theta ** (-np.arange(0, d, 2) / d)  # [n,1,d/2]
    return np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)


def rotary(x: Array, turn: tuple[Array, Array], heads: int) -> tuple[Array, Pullback]:
    """Turn each pair of a head's features by an angle that grows with the position (Su et al., 2021).

    x [n,h·d], and what `rotation` gives for its n positions  →  y [n,h·d]. Pair j of a head is (x_j, x_{j+d/2}), the
    halves, as in Llama:

        y₁ = x₁ cos φ − x₂ sin φ        dx₁ = dy₁ cos φ + dy₂ sin φ
        y₂ = x₂ cos φ + x₁ sin φ        dx₂ = dy₂ cos φ − dy₁ sin φ

    A rotation's transpose is the rotation back. Scores q·k then see only the difference of two positions.

    Raises
    ------
    ValueError: the turn is of other positions or of heads of another width.
    """
    n, width = x.shape
    cos, sin = turn
    if cos.shape != (n, 1, width // heads // 2):
        raise ValueError(
            f"a turn of {cos.shape[0]} positions for heads of {2 * cos.shape[2]} features was given for {n} rows of "
            f"{heads} heads of {width // heads}"
        )

    def turned(x: Array, sin: Array) -> Array:
        halves = x.reshape(n, heads, 2, width // heads // 2)  # [n,h·d] → [n,h,2,d/2]
        y = np.empty_like(halves)
        y[:, :, 0] = halves[:, :, 0] * cos - halves[:, :, 1] * sin
        y[:, :, 1] = halves[:, :, 1] * cos + halves[:, :, 0] * sin
        return y.reshape(n, width)

    return turned(x, sin), lambda dy: turned(dy, -sin)
