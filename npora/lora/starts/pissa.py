"""PiSSA: the start at the largest singular values of W, exact or by a randomised decomposition."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from npora.nn.module import Array


def pissa(W: Array, r: int, s: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """W = U Σ Vᵀ,  A = √(Σᵣ/s) Vᵣᵀ,  B = Uᵣ √(Σᵣ/s).    W [o,i]  →  A [r,i]  B [o,r]

    (Meng, Wang and Zhang, 2024, arXiv:2404.02948.) Then s B A = Uᵣ Σᵣ Vᵣᵀ is the best approximation of W of rank r, and
    what is trained begins at W's principal part, where its gradient is large, rather than at zero. W goes on from what
    is left, W − s B A, and the new layer is the old one. The paper has s = 1; with Σ/s so it is for any s.
    """
    U, S, V = np.linalg.svd(np.asarray(W), full_matrices=False)  # [o,r], [r], [r,i] of the full rank
    return _factors(U, S, V, r, s)


def pissa_niter(turns: int) -> Callable[[Array, int, float, np.random.Generator], tuple[Array, Array]]:
    """Return the start by the randomised decomposition of this many turns ("pissa_niter_N")."""

    def begin(W: Array, r: int, s: float, rng: np.random.Generator) -> tuple[Array, Array]:
        W = np.asarray(W)
        return _factors(*randomised_svd(W, r, turns, rng), r, s)

    return begin


def randomised_svd(W: Array, r: int, turns: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """U, Σ, Vᵀ ≈ the r largest singular values of W and their vectors.    W [o,i]  →  U [o,r]  Σ [r]  Vᵀ [r,i]

    (Halko, Martinsson and Tropp, 2009, arXiv:0909.4061, algorithms 4.4 and 5.1, as in torch's `svd_lowrank`.) With
    Ω [i,r] from N(0, 1), and ⊥ the orthonormal basis of what a matrix's columns span:

        Q = (W Ω)⊥                            (1)
        Q ← (W (Wᵀ Q)⊥)⊥,  `turns` times      (2)   each raises the gaps between singular values to their squares
        Qᵀ W = Ũ Σ Vᵀ,  U = Q Ũ               (3)   of r rows alone

    It takes 2 + 2 · turns products of W with r columns, where an exact decomposition takes some min(o, i).
    """
    Q = np.linalg.qr(W @ rng.standard_normal((W.shape[1], r)).astype(W.dtype))[0]  # (1) [o,r]
    for _ in range(turns):
        Q = np.linalg.qr(W @ np.linalg.qr(W.T @ Q)[0])[0]  # (2) [o,r]
    U, S, V = np.linalg.svd(Q.T @ W, full_matrices=False)  # (3)
    return Q @ U, S, V


def _factors(U: Array, S: Array, V: Array, r: int, s: float) -> tuple[Array, Array]:
    root = np.sqrt(S[:r] / S.dtype.type(s))
    return root[:, None] * V[:r], U[:, :r] * root  # [r,i], [o,r]
