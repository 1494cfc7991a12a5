"""OLoRA: the start at a QR decomposition of W."""

from __future__ import annotations

import numpy as np

from npora.nn.module import Array


def olora(W: Array, r: int, s: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """W = Q R,  A = the first r rows of R,  B = the first r columns of Q.    W [o,i]  →  A [r,i]  B [o,r]

    (Büyükakyüz, 2024, arXiv:2406.01775.) The columns of B are orthonormal, and B A has the first r columns of W, and of
    the others what lies in the span of those. What is trained begins at s B A, and W goes on from W − s B A. The paper
    has no s; PEFT takes s B A away and leaves A and B as they are, and so does this.

    Of a Conv1D, W [o,i] is decomposed here as of any layer. PEFT decomposes what it holds, Wᵀ, so that its B A is of
    another shape, and does not run, unless o = i; then its new layer is not the old one.
    """
    Q, R = np.linalg.qr(np.asarray(W))
    return R[:r], Q[:, :r]
