"""Solves, inverses, determinants and factors, of conditions up to 10¹²."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import apart, between, definite, fixed, matrix, n, pair, right

M, S = matrix(5), definite(5)


def _low(x):
    """Lower triangle with half its diagonal: what the derivative of a Cholesky factor keeps."""
    return np.tril(x) - np.diag(np.diag(x)) / 2


def _sym(x):
    return (x + x.T) / 2


@right(M, n(5, 2))
def solve(A, b):
    """A x = b:    db = A⁻ᵀ dx,  dA = −db xᵀ"""
    x = np.linalg.solve(A, b)

    def backward(dx):
        db = np.linalg.solve(A.T, dx)
        return -db @ x.T, db

    return x, backward


@right(S, n(5))
def solve_definite(A, b):
    """By Cholesky's factor of the symmetric part."""
    L = np.linalg.cholesky(_sym(A))
    x = np.linalg.solve(L.T, np.linalg.solve(L, b))

    def backward(dx):
        db = np.linalg.solve(L.T, np.linalg.solve(L, dx))
        return -_sym(np.outer(db, x)), db

    return x, backward


@right(n(5))
def solve_hilbert(b):
    """A constant of condition 5e5."""
    H = 1 / (np.arange(5)[:, None] + np.arange(5) + 1.0)
    return np.linalg.solve(H, b), lambda dx: np.linalg.solve(H, dx)


@right(n(5), n(5))
def solve_vandermonde(t, b):
    """p interpolates b at the nodes t:    db = V⁻ᵀ dp,  dt = −db p′(t)"""
    V = np.vander(t, 5)
    p = np.linalg.solve(V, b)

    def backward(dp):
        db = np.linalg.solve(V.T, dp)
        return -db * np.polyval(p[:-1] * np.arange(4, 0, -1), t), db

    return p, backward


@right(M)
def inverse(A):
    """dA = −A⁻ᵀ dy A⁻ᵀ"""
    y = np.linalg.inv(A)
    return y, lambda dy: -y.T @ dy @ y.T


@right(M)
def determinant(A):
    """dA = dy det A A⁻ᵀ"""
    y = np.linalg.det(A)
    return y, lambda dy: dy * y * np.linalg.inv(A).T


@right(M)
def log_determinant(A):
    """dA = dy A⁻ᵀ"""
    return np.linalg.slogdet(A)[1], lambda dy: dy * np.linalg.inv(A).T


@right(matrix(6, 3, 6), n(6))
def least_squares(A, b):
    """x = A⁺ b, r = b − A x, z = (AᵀA)⁻¹ dx:    db = A z,  dA = r zᵀ − (A z) xᵀ"""
    x = np.linalg.lstsq(A, b, rcond=None)[0]
    r = b - A @ x

    def backward(dx):
        R = np.linalg.qr(A)[1]
        z = np.linalg.solve(R, np.linalg.solve(R.T, dx))
        return np.outer(r, z) - np.outer(A @ z, x), A @ z

    return x, backward


def _sylvester(A, B, C):
    """X with A X + X B = C, by its Kronecker form."""
    m, k = C.shape
    system = np.kron(A, np.eye(k)) + np.kron(np.eye(m), B.T)
    return np.linalg.solve(system, C.ravel()).reshape(m, k)


@right(definite(3, 6), definite(2, 6), n(3, 2))
def sylvester(A, B, C):
    """A X + X B = C:    Aᵀ Z + Z Bᵀ = dX,  dC = Z,  dA = −Z Xᵀ,  dB = −Xᵀ Z"""
    X = _sylvester(A, B, C)

    def backward(dX):
        Z = _sylvester(A.T, B.T, dX)
        return -Z @ X.T, -X.T @ Z, Z

    return X, backward


@right(matrix(3, 3, 1))
def lyapunov_discrete(A):
    """X = ½A X ½Aᵀ + I:    Z = ½Aᵀ Z ½A + dX,  dA = ½·(Z ½A Xᵀ + Zᵀ ½A X)"""
    H = A / 2

    def solved(F, C):
        return np.linalg.solve(np.eye(9) - np.kron(F, F), C.ravel()).reshape(3, 3)

    X = solved(H, np.eye(3))

    def backward(dX):
        Z = solved(H.T, dX)
        return (Z @ H @ X.T + Z.T @ H @ X) / 2

    return X, backward


@right(matrix(5), n(5, 2))
def triangular_solve(A, b):
    """With L the lower triangle of A, its diagonal ones: only what L reads has a gradient."""
    L = np.tril(A, -1) + np.eye(5)
    x = np.linalg.solve(L, b)

    def backward(dx):
        db = np.linalg.solve(L.T, dx)
        return -np.tril(db @ x.T, -1), db

    return x, backward


@right(between(2, 3, 6), n(5), n(5), n(6))
def tridiagonal_solve(d, low, up, b):
    """Thomas's sweeps forward; backward the transposed system:  dd = −db x, dlow = −db₊ x, dup = −db x₊"""

    def sweep(low, d, up, b):
        pivots, values = [d[0]], [b[0]]
        for k in range(1, 6):
            w = low[k - 1] / pivots[-1]
            pivots.append(d[k] - w * up[k - 1])
            values.append(b[k] - w * values[-1])
        x = [values[-1] / pivots[-1]]
        for k in range(4, -1, -1):
            x.append((values[k] - up[k] * x[-1]) / pivots[k])
        return np.array(x[::-1])

    x = sweep(low, d, up, b)

    def backward(dx):
        db = sweep(up, d, low, dx)
        return -db * x, -db[1:] * x[:-1], -db[:-1] * x[1:], db

    return x, backward


@right(n(4), matrix(4, 4, 8), n(4))
def sherman_morrison(u, A, v):
    """1 + vᵀ A⁻¹ u:    du = A⁻ᵀ v dy,  dv = A⁻¹ u dy,  dA = −A⁻ᵀ v (A⁻¹ u)ᵀ dy"""
    x, z = np.linalg.solve(A, u), np.linalg.solve(A.T, v)
    return 1 + v @ x, lambda dy: (dy * z, -dy * np.outer(z, x), dy * x)


@right(matrix(5, 5, 6), n(2, 2))
def schur_complement(A, B):
    """S = A₂₂ + B − A₂₁ A₁₁⁻¹ A₁₂ with A₁₁ made safe by adding 2I"""
    A11 = A[:3, :3] + 2 * np.eye(3)
    X, Y = np.linalg.solve(A11, A[:3, 3:]), np.linalg.solve(A11.T, A[3:, :3].T)

    def backward(dS):
        dA = np.zeros_like(A)
        dA[3:, 3:], dA[3:, :3] = dS, -dS @ X.T
        dA[:3, 3:], dA[:3, :3] = -Y @ dS, Y @ dS @ X.T
        return dA, dS

    return A[3:, 3:] + B - A[3:, :3] @ X, backward


@right(matrix(4, 4, 10), n(4))
def refined_solve(A, b):
    """Normal equations AᵀA x = Aᵀb plus a ridge: worse conditioned than A itself."""
    N = A.T @ A + 1e-6 * np.eye(4)
    x = np.linalg.solve(N, A.T @ b)

    def backward(dx):
        z = np.linalg.solve(N, dx)
        return np.outer(b - A @ x, z) - np.outer(A @ z, x), A @ z

    return x, backward


# fmt: off
pair("resolvent", [matrix(4, 4, 3)], lambda A: np.linalg.inv(2 * np.eye(4) - A / 2), lambda dy, A: (
    np.linalg.inv(2 * np.eye(4) - A / 2).T @ dy @ np.linalg.inv(2 * np.eye(4) - A / 2).T / 2
))
pair("cauchy determinant", [apart(4)], lambda x: np.linalg.slogdet(1 / (x[:, None] + np.arange(4) + 3.0))[1],
     lambda dy, x: -dy * np.einsum("ij,ji->i", (x[:, None] + np.arange(4) + 3.0) ** -2.0,
                                   np.linalg.inv(1 / (x[:, None] + np.arange(4) + 3.0))))
pair("rayleigh quotient", [n(4)], lambda x: x @ _sym(fixed(4, 4)) @ x / (x @ x), lambda dy, x: (
    2 * dy * (_sym(fixed(4, 4)) @ x - x * (x @ _sym(fixed(4, 4)) @ x) / (x @ x)) / (x @ x)
))
# fmt: on
