"""Rotary positions: a position is an angle by which queries and keys are turned."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from npora.nn.module import Array, Pullback


def frequencies(d: int, theta: float = 10000.0) -> Array:
    """ω_j = θ^(−2j/d), by which pair j of a head turns with each position (Su et al., 2021).    →  [d/2]

    Raises
    ------
    ValueError: the head width d is odd.
    """
    if d % 2:
        raise ValueError(f"rotary takes heads of even width, since it turns pairs; got heads of {d} features")
    return np.asarray(theta ** (-np.arange(0, d, 2) / d))


def linear(omega: Array, *, factor: float) -> Array:
    """ω/s, as if all positions were s times nearer to each other (Chen et al., 2023: position interpolation).

    A model that learnt L positions meets no angle that it does not know up to the position s L.    omega [d/2]
    """
    return omega / factor


def llama3(
    omega: Array, *, factor: float, low_freq_factor: float, high_freq_factor: float,
    original_max_position_embeddings: float,
) -> Array:  # fmt: skip
    """ω ((1 − γ)/s + γ), which slows the slow pairs alone, by s (Llama 3.1; `apply_scaling` of Meta's llama-models).

        γ = min(max((ρ − low)/(high − low), 0), 1)    with ρ = L ω/2π, the turns of a pair within the L positions learnt

    A pair that turns more than `high` times within L knows all angles, and is left alone: γ = 1. One that turns less
    than `low` times has not seen a whole circle, and is `linear`: γ = 0. In between γ grows evenly.    omega [d/2]
    """
    turns = original_max_position_embeddings * omega / (2 * math.pi)
    gamma = np.clip((turns - low_freq_factor) / (high_freq_factor - low_freq_factor), 0, 1)
    return np.asarray(omega * ((1 - gamma) / factor + gamma))


def rotation(positions: Array, omega: Array, dtype: npt.DTypeLike = np.float32) -> tuple[Array, Array]:
    """(cos φ, sin φ), each [n,1,d/2], of the angles φ = p ω of a head's pairs.    positions p, int [n]  omega [d/2]

    They are computed in float64 whatever dtype is: a position may be large.
    """
    angle = positions[:, None, None] * omega  # [n,1,d/2]
    return np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)


def rotary(x: Array, turn: tuple[Array, Array], heads: int) -> tuple[Array, Pullback]:
    """Turn each pair of a head's features by an angle that grows with the position (Su et al., 2021).

    x [n,h·d], and what `rotation` gives for its n positions  →  y [n,h·d]. Pair j of the p that are turned is
    (x_j, x_{j+p}), as in Llama, where p = d/2 and they are a head's halves. What stands behind 2p features stays:

        y₁ = x₁ cos φ − x₂ sin φ        dx₁ = dy₁ cos φ + dy₂ sin φ
        y₂ = x₂ cos φ + x₁ sin φ        dx₂ = dy₂ cos φ − dy₁ sin φ

    A rotation's transpose is the rotation back. Scores q·k then see only the difference of two positions.

    Raises
    ------
    ValueError: the turn is of other positions or of wider heads.
    """
    n, width = x.shape
    cos, sin = turn
    p, d = cos.shape[2], width // heads
    if cos.shape[0] != n or 2 * p > d:
        raise ValueError(
            f"a turn of {cos.shape[0]} positions for heads of {2 * p} features was given for {n} rows of {heads} heads "
            f"of {d}"
        )

    def turned(x: Array, sin: Array) -> Array:
        split = x.reshape(n, heads, d)  # [n,h·d] → [n,h,d]
        first, second, rest = split[:, :, :p], split[:, :, p : 2 * p], split[:, :, 2 * p :]
        y = np.empty_like(split)
        y[:, :, :p] = first * cos - second * sin
        y[:, :, p : 2 * p] = second * cos + first * sin
        y[:, :, 2 * p :] = rest
        return y.reshape(n, width)

    return turned(x, sin), lambda dy: turned(dy, -sin)
