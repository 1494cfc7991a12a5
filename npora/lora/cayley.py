"""Rotations made of skew-symmetric matrices, in Cayley's form, exact or cut off; many of one size at once."""

from __future__ import annotations

import numpy as np

from npora.nn.module import Array, Pullback


def skew(q: Array, size: int) -> tuple[Array, Pullback]:
    """Q = ▵q − (▵q)ᵀ.    q [k,size·(size−1)/2], row by row what stands above the diagonal  →  Q [k,size,size]

    dq = dQ − dQᵀ above the diagonal     (1)
    """
    Q = np.zeros((len(q), size, size), q.dtype)
    above = (slice(None), *np.triu_indices(size, 1))
    Q[above] = q
    return Q - Q.transpose(0, 2, 1), lambda dQ: (dQ - dQ.transpose(0, 2, 1))[above]  # (1)


def cayley(Q: Array) -> tuple[Array, Pullback]:
    """R = (1 − Q) (1 + Q)⁻¹: for a skew-symmetric Q an orthogonal matrix of determinant 1 (Cayley, 1846).

    From R (1 + Q) = 1 − Q, dR (1 + Q) = −(1 + R) dQ, so that

        dQ = −(1 + R)ᵀ dR (1 + Q)⁻ᵀ     (1)
    """
    identity = np.eye(Q.shape[-1], dtype=Q.dtype)
    inverse = np.linalg.inv(identity + Q)
    R = np.matmul(identity - Q, inverse)

    def backward(dR: Array) -> Array:
        return -np.matmul(np.matmul((identity + R).transpose(0, 2, 1), dR), inverse.transpose(0, 2, 1))  # (1)

    return R, backward


def neumann(Q: Array, terms: int) -> tuple[Array, Pullback]:
    """R = 1 + 2 Q + 2 Q² + ⋯ + 2 Qᵐ⁻¹ + Qᵐ, which is Cayley's (1 + Q) (1 − Q)⁻¹, of −Q that is, cut off.

    It is orthogonal to terms of higher order. m is `terms` − 1, but 3 for 3 terms, and 1 + 2 Q is all there is of 2, as
    PEFT has it. With a₀ … aₘ for the factors, by Horner's rule:

        Pₘ = aₘ 1,  Pⱼ = aⱼ 1 + Q Pⱼ₊₁,  R = P₀            (1)
        dQ += dPⱼ Pⱼ₊₁ᵀ,  dPⱼ₊₁ = Qᵀ dPⱼ,  dP₀ = dR        (2)
    """
    factors = [1, 2] if terms == 2 else [1, *[2] * (max(terms - 1, 3) - 1), 1]
    identity = np.broadcast_to(np.eye(Q.shape[-1], dtype=Q.dtype), Q.shape)
    steps = [factors[-1] * identity]
    for factor in factors[-2::-1]:
        steps.append(factor * identity + np.matmul(Q, steps[-1]))  # (1)

    def backward(dR: Array) -> Array:
        dQ, dP = np.zeros_like(Q), dR
        for P in steps[-2::-1]:
            dQ += np.matmul(dP, P.transpose(0, 2, 1))  # (2)
            dP = np.matmul(Q.transpose(0, 2, 1), dP)
        return dQ

    return steps[-1], backward
