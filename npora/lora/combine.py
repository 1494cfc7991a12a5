"""Several updates made into one: the formulas of `add_weighted_adapter`, on plain arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from npora.machine.product import product
from npora.nn.module import Array

ELEMENTWISE = ("linear", "magnitude_prune", "dare_linear", "ties", "dare_ties")
# As PEFT names them: `svd` is the form of `linear` that takes whole updates.
COMBINATIONS = (*ELEMENTWISE, "cat", "svd", *(f"{name}_svd" for name in ELEMENTWISE if name != "linear"))
PRUNED = tuple(name for name in COMBINATIONS if name.startswith(("magnitude", "dare", "ties")))
ELECTED = tuple(name for name in COMBINATIONS if "ties" in name)


class Factors(NamedTuple):
    """An update of rank r:  ΔW = s B A.    B [o,r]  A [r,i]"""

    s: float
    B: Array
    A: Array

    def update(self) -> Array:
        return product(self.s * self.B, self.A)  # [o,i]


def combined(
    name: str, parts: Sequence[Array], weights: Sequence[float], density: float, majority: str, rng: np.random.Generator
) -> Array:
    """Make one τ of several τ_k of one shape, each with a weight w_k, element by element. p is the density.

        linear           τ = Σₖ w_k τ_k                                     (1)  Ilharco et al., 2022 (2212.04089)
        magnitude_prune  τ = Σₖ w_k t_k,  t_k = the share p of τ_k with the largest |τ_k|, else 0      (2)
        dare_linear      τ = Σₖ w_k t_k,  t_k = m_k ⊙ τ_k / p,  each of m_k 1 with probability p       (3)
        ties, dare_ties  τ = Σₖ w_k t_k [sign t_k = σ] / |{k : sign t_k = σ}|, t_k as in (2), (3)      (4)

    (3) is of Yu et al., 2023 (2311.03099), and has τ_k as its mean; (4) of Yadav et al., 2023 (2306.01708). σ is the
    sign that wins, by the sum Σₖ t_k ("total") or the count Σₖ sign t_k ("frequency"), + where that is zero. As in PEFT
    the t_k elect unweighted, and weights do not divide the mean.
    """
    if name.startswith("dare"):
        parts = [part * (rng.random(part.shape) < density) / density for part in parts]  # (3)
    elif name != "linear":
        parts = [largest(part, density) for part in parts]  # (2)
    t = np.stack(parts)  # [k,…]
    weighted = t * np.reshape(np.asarray(weights, t.dtype), (-1, *[1] * (t.ndim - 1)))
    if "ties" not in name:
        return np.asarray(weighted.sum(axis=0))  # (1), (2), (3)
    votes = (t if majority == "total" else np.sign(t)).sum(axis=0)
    elected = np.sign(t) == np.where(votes >= 0, 1, -1)
    return np.asarray((weighted * elected).sum(axis=0) / np.maximum(elected.sum(axis=0), 1), t.dtype)  # (4)


def largest(part: Array, density: float) -> Array:
    """Keep ⌊p n⌋ of n numbers, the largest by magnitude (of equals those that stand first), and zeros elsewhere."""
    keep = np.argsort(-abs(part).ravel(), kind="stable")[: int(density * part.size)]
    kept = np.zeros_like(part)
    kept.flat[keep] = part.flat[keep]
    return kept


def combined_factors(
    name: str, parts: Sequence[Factors], weights: Sequence[float], density: float, majority: str,
    rng: np.random.Generator,
) -> Factors:  # fmt: skip
    """Combine the A's and the B's apart, each with the root of w_k s_k as its weight; the sign goes to A.

    What comes of it is Σₖ w_k s_k B_k A_k where only one update is at hand. Of more, `linear` has all the products
    B_j A_k beside those, so that it is a rough approximation; `cat` and `svd` have none.
    """
    scales = [weight * part.s for weight, part in zip(weights, parts, strict=True)]
    roots = [abs(scale) ** 0.5 for scale in scales]
    signed = [root if scale >= 0 else -root for root, scale in zip(roots, scales, strict=True)]
    A = combined(name, [part.A for part in parts], signed, density, majority, rng)
    return Factors(1.0, combined(name, [part.B for part in parts], roots, density, majority, rng), A)


def side_by_side(parts: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """Σₖ w_k s_k B_k A_k = [B₁ B₂ …] [w₁ s₁ A₁; w₂ s₂ A₂; …], exactly, and of rank Σ r_k."""
    A = [weight * part.s * part.A for weight, part in zip(weights, parts, strict=True)]
    return Factors(1.0, np.concatenate([part.B for part in parts], axis=1), np.concatenate(A, axis=0))


class Singular(NamedTuple):
    """W = U diag(σ) V, with the singular values σ from the largest on.    U [o,k]  σ [k]  V [k,i]"""

    U: Array
    values: Array
    V: Array

    def cut(self, rank: int) -> Factors:
        """The nearest matrix of this rank (Eckart and Young, 1936):  B = U_r diag(σ_r),  A = V_r."""
        return Factors(1.0, self.U[:, :rank] * self.values[:rank], self.V[:rank])


def singular(update: Array) -> Singular:
    return Singular(*np.linalg.svd(update, full_matrices=False))


def singular_of(factors: Factors) -> Singular:
    """The same of s B A, from its factors alone:  B = Q_B R_B,  Aᵀ = Q_A R_A,  s R_B R_Aᵀ = U diag(σ) V."""
    QB, RB = np.linalg.qr(factors.B)  # [o,k], [k,r]
    QA, RA = np.linalg.qr(factors.A.T)  # [i,k], [k,r]
    U, values, V = singular(factors.s * product(RB, RA.T))
    return Singular(product(QB, U), values, product(V, QA.T))


def clamped(factors: Factors, share: float) -> Factors:
    """Hold the numbers of both factors within ± the quantile of this share of all of them, as PEFT's svd_clamp does."""
    most = np.quantile(np.concatenate([factors.B.ravel(), factors.A.ravel()]), share)
    return Factors(factors.s, factors.B.clip(-most, most), factors.A.clip(-most, most))


def of_rank(factors: Factors, rank: int) -> Factors:
    """The same update with zeros for the rows of A and columns of B that are lacking."""
    lacking = rank - len(factors.A)
    return Factors(factors.s, np.pad(factors.B, ((0, 0), (0, lacking))), np.pad(factors.A, ((0, lacking), (0, 0))))
