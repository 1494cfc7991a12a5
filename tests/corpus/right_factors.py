"""Factors, eigenvalues and singular values, of conditions up to 10¹²."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import definite, matrix, n, right

S = definite(5)


def _low(x):
    """Lower triangle with half its diagonal: what the derivative of a Cholesky factor keeps."""
    return np.tril(x) - np.diag(np.diag(x)) / 2


def _sym(x):
    return (x + x.T) / 2


@right(S)
def cholesky(A):
    """dA = sym(L⁻ᵀ Φ(Lᵀ dL) L⁻¹), of the symmetric part of A"""
    L = np.linalg.cholesky(_sym(A))

    def backward(dL):
        return _sym(np.linalg.solve(L.T, np.linalg.solve(L.T, _low(L.T @ np.tril(dL)).T).T))

    return L, backward


@right(matrix(5, 3, 6))
def qr_factors(A):
    """With M = R dRᵀ − dQᵀ Q:    dA = (dQ + Q copyltu(M)) R⁻ᵀ"""
    Q, R = np.linalg.qr(A)

    def backward(dQ, dR):
        inner = R @ np.triu(dR).T - dQ.T @ Q
        mirrored = np.tril(inner) + np.tril(inner, -1).T
        return np.linalg.solve(R, (dQ + Q @ mirrored).T).T

    return (Q, R), backward


@right(S)
def symmetric_eigenvalues(A):
    """dA = V diag(dw) Vᵀ"""
    w, V = np.linalg.eigh(_sym(A))
    return w, lambda dw: (V * dw) @ V.T


@right(matrix(4, 4, 1.5))
def squared_eigenvectors(A):
    """Their signs cancel in V ∘ V:    dA = V ((Vᵀ dV) ∘ F) Vᵀ with F_ij = 1/(w_j − w_i)"""
    w, V = np.linalg.eigh(A + A.T)

    def backward(dy):
        gaps = w - w[:, None] + np.eye(4)
        inner = (V.T @ (2 * V * dy)) / gaps * (1 - np.eye(4))
        return 2 * _sym(V @ inner @ V.T)

    return V * V, backward


@right(matrix(5, 3))
def singular_values(A):
    """dA = U diag(ds) Vᵀ"""
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    return s, lambda ds: (U * ds) @ Vt


@right(matrix(4, 3))
def nuclear_norm(A):
    """dA = dy U Vᵀ"""
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    return s.sum(), lambda dy: dy * U @ Vt


@right(matrix(4, 5))
def spectral_norm(A):
    """dA = dy u₁ v₁ᵀ"""
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    return s[0], lambda dy: dy * np.outer(U[:, 0], Vt[0])


@right(matrix(4, 4, 5))
def log_condition(A):
    """log s₁ − log s_n"""
    U, s, Vt = np.linalg.svd(A)
    return np.log(s[0] / s[-1]), lambda dy: dy * (np.outer(U[:, 0], Vt[0]) / s[0] - np.outer(U[:, -1], Vt[-1]) / s[-1])


@right(matrix(5, 3, 4))
def pseudo_inverse(A):
    """P = A⁺:    dA = −Pᵀ dP Pᵀ + (I − A P) dPᵀ P Pᵀ, for independent columns"""
    P = np.linalg.pinv(A)
    return P, lambda dP: -P.T @ dP @ P.T + (np.eye(5) - A @ P) @ dP.T @ P @ P.T


@right(matrix(5, 2, 5))
def projector(A):
    """P = A A⁺:    dA = (I − P)(dP + dPᵀ) A⁺ᵀ"""
    plus = np.linalg.pinv(A)
    P = A @ plus
    return P, lambda dP: (np.eye(5) - P) @ (dP + dP.T) @ plus.T


@right(n(4, 4))
def exponential_by_series(A):
    """Σ A^k/k! by t ← t A/k, and each product undone in reverse."""
    terms = [np.eye(4) + 0 * A]
    for k in range(1, 30):
        terms.append(terms[-1] @ A / k)

    def backward(dy):
        dA, dt = np.zeros_like(A), np.zeros_like(A)
        for k in range(29, 0, -1):
            dt = dt + dy
            dA, dt = dA + terms[k - 1].T @ dt / k, dt @ A.T / k
        return dA

    return sum(terms), backward


@right(definite(4, 4))
def square_root(A):
    """Y² = A:    Y Z + Z Y = dY, dA = Z"""
    w, V = np.linalg.eigh(_sym(A))
    roots = np.sqrt(w)

    def backward(dY):
        return _sym(V @ ((V.T @ dY @ V) / (roots + roots[:, None])) @ V.T)

    return (V * roots) @ V.T, backward


@right(n(4, 4))
def polar_by_newton_schulz(G):
    """X ← 1.5 X − 0.5 X Xᵀ X five times from G/‖G‖; each step is undone in reverse."""
    size = np.sqrt((G * G).sum())
    steps = [G / size]
    for _ in range(5):
        X = steps[-1]
        steps.append(1.5 * X - 0.5 * X @ X.T @ X)

    def backward(dX):
        for X in steps[-2::-1]:
            dX = 1.5 * dX - 0.5 * (dX @ X.T @ X + X @ dX.T @ X + X @ X.T @ dX)
        return (dX - steps[0] * (steps[0] * dX).sum()) / size

    return steps[-1], backward
