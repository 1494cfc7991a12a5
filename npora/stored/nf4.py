"""NF4: four bits a number, sixteen levels where a normal distribution has its numbers, and constants in eight bits."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from npora.stored.blocks import Array, Blocked, Terms


def normal_levels() -> Array:
    """Return the sixteen levels of NF4, from −1 to 1.    float32 [16]

    (Dettmers et al., 2023, QLoRA, arXiv:2305.14314, section 3.) Weights are about normally distributed, and a level
    serves as many of them as any other where the levels are quantiles. Sixteen quantiles that are even in probability
    lack zero; so those below zero and those above are taken apart, each half with zero as its end:

        p⁻ = δ … ½ in 8 even steps' ends,  p⁺ = ½ … 1 − δ in 9,  δ = ½ (1/30 + 1/32)      (1)
        levels = Φ⁻¹(p⁻) ∪ Φ⁻¹(p⁺),  divided by the largest                               (2)

    δ, the mean of half a step of 15 and of 16, keeps the ends finite. Φ⁻¹(δ) = −Φ⁻¹(1 − δ), so the least level is −1.
    """
    delta, quantile = (1 / 30 + 1 / 32) / 2, NormalDist().inv_cdf
    p = [*np.linspace(delta, 0.5, 8), *np.linspace(0.5, 1 - delta, 9)[1:]]  # (1)
    levels = np.array([quantile(float(each)) for each in p])
    return (levels / levels.max()).astype(np.float32)  # (2)


LEVELS = normal_levels()
_BETWEEN = (LEVELS[1:] + LEVELS[:-1]) / 2  # from where on the next level is the nearer one
# The two numbers of each byte, the upper four bits first, as the two halves of one element.
_PAIRS = np.stack(np.broadcast_arrays(LEVELS[:, None], LEVELS), -1).reshape(-1).view(np.complex64)  # [256]


class NF4(Blocked):
    """w = c ℓ,  ℓ one of sixteen levels,  c a constant for each 64 numbers of a row.    (Dettmers et al., 2023)

    The constants are quantised too ("double quantisation"), to eight bits k between the row's least and largest:

        c = c₁ (c₀/c₁)^(k/255),  c₀, c₁ the least and largest max |w| of the row's blocks     (1)   c₀ ≥ 2⁻²⁴ c₁

    To quantise w, k is the one whose c is nearest to max |w| in ratio, and ℓ is the level nearest to w / c:

        |w − c ℓ| ≤ c g/2 + |max |w| − c|,  g = 0.304 the widest gap between levels

    A row of i numbers takes 32 bytes for each 64 of them, a byte for their c, and 8 for c₀ and c₁: 4.16 bits a number
    where i is 2,048. The paper has 256 constants share their own, through many rows, in an eight-bit float from their
    mean on. A row's own is found where the row is, and even ratios serve a row that has outliers in one block.

    A row's bytes: two numbers each, the upper four bits first; k of each block; c₀, c₁ as float32.
    """

    form, block = "nf4", 64

    @classmethod
    def row_bytes(cls, width: int) -> int:
        return cls.blocks_in(width) * 33 + 8

    @classmethod
    def terms_in(cls, rows: Array, blocks: slice) -> Terms:
        end = (rows.shape[-1] - 8) // 33 * 32
        pairs = rows[..., 32 * blocks.start : 32 * blocks.stop]
        c = _constants(rows[..., end + blocks.start : end + blocks.stop], rows[..., -8:].view("<f4"))
        levels = np.take(_PAIRS, pairs, mode="clip").view(np.float32)
        return Terms(levels.reshape(*c.shape, 1, 64), c[..., None])

    @classmethod
    def narrowed(cls, rows: Array) -> Array:
        most = np.abs(rows).max(axis=-1)  # [n, blocks]
        largest = most.max(axis=-1, initial=0)
        least = np.where(most > 0, most, np.inf).min(axis=-1, initial=np.inf)
        least = np.minimum(np.maximum(least, largest * np.float32(2**-24)), largest)
        ends = np.stack([least, largest], axis=-1).astype("<f4")  # c₀, c₁ [n,2]
        k = _nearest_constants(most, ends)
        c = _constants(k, ends)[..., None]
        x = np.divide(rows, c, out=np.zeros_like(rows), where=c > 0)
        codes = np.zeros(rows.shape, np.uint8)
        for between in _BETWEEN:
            codes += x > between
        pairs = codes[..., ::2] << 4 | codes[..., 1::2]
        return np.concatenate([pairs.reshape(len(rows), -1), k, ends.view(np.uint8)], axis=-1)


def _constants(k: Array, ends: Array) -> Array:
    """c of (1).    k uint8 [..., blocks]  c₀, c₁ [...,2]  →  c [..., blocks]"""
    return ends[..., 1:] * np.exp(_log_ratio(ends[..., :1], ends[..., 1:]) * (k / np.float32(255)))  # (1)


def _nearest_constants(most: Array, ends: Array) -> Array:
    """k of (1) such that c is nearest to max |w|."""
    span, part = _log_ratio(ends[:, :1], ends[:, 1:]), _log_ratio(np.maximum(most, ends[:, :1]), ends[:, 1:])
    return np.rint(255 * np.divide(part, span, out=np.zeros_like(part), where=span < 0)).astype(np.uint8)


def _log_ratio(one: Array, other: Array) -> Array:
    """log(one / other), and 0 where both are zero."""
    return np.log(np.divide(one, other, out=np.ones_like(one), where=other > 0))
