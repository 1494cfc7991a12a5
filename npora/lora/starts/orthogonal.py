"""The orthogonal start: neither A nor B is zero, and B A is."""

from __future__ import annotations

import numpy as np

from npora.nn.module import Array


def orthogonal(W: Array, r: int, s: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """A = Q₁ᵀ N₁ / 10,  B = N₂ Q₂ / 10,  Q₂ Q₁ᵀ = 0.    N₁ [r/2,i]  N₂ [o,r/2]  Q₁, Q₂ [r/2,r]  →  A [r,i]  B [o,r]

    Q₁ and Q₂ are every other row of an orthogonal matrix, N₁ and N₂ are drawn from N(0, 1), and so

        B A = N₂ (Q₂ Q₁ᵀ) N₁ / 100 = 0

    to rounding. Both A and B have a gradient at the first step, where with B = 0 that of A is zero. It is PEFT's
    `init_lora_weights="orthogonal"`, which has it from a text of Jaidatta's on the web ("Rethinking LoRA
    initialisation", datta0.github.io) rather than from a paper. W plays no part, and r is even.
    """
    o, i = W.shape
    Q = np.linalg.qr(rng.standard_normal((r, r)))[0]  # [r,r]
    A = Q[0::2].T @ rng.standard_normal((r // 2, i)) / 10  # [r,i]
    B = rng.standard_normal((o, r // 2)) @ Q[1::2] / 10  # [o,r]
    return A.astype(W.dtype), B.astype(W.dtype)
