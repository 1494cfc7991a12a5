"""Of products, solves and factors: transposes, halves, and gradients of the wrong one."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import fixed, only_first, only_last, spoilt, true, wrong


def _sym(x):
    return (x + x.T) / 2


# fmt: off
only_first("matrix product", "one row short of the sum", lambda g, dy, a, b: g * np.r_[1, 1, 0][:, None])
only_last("matrix product", "of the absolute left factor", lambda g, dy, a, b: np.abs(a).T @ dy)
only_last("product with a transpose", "the first column zero", lambda g, dy, a, b: g * (np.arange(4) > 0))
only_first("matrix by vector", "the outer product of its own", lambda g, dy, a, x: np.outer(dy, dy @ a))
only_last("inner product", "itself", lambda g, dy, x, z: dy * z)
only_first("outer product", "the largest of a row for the sum", lambda g, dy, x, z: (dy * z).max(1))
only_last("batched product", "the batch reversed", lambda g, dy, a, b: g[::-1])
only_last("batched product, one matrix shared", "the mean over the batch", lambda g, dy, a, b: g / 2)
wrong("gram matrix", "dy once and not its transpose", lambda dy, a: 2 * a @ dy)
only_first("quadratic form", "m without its transpose", lambda g, dy, x, m: 2 * dy * m @ x)
only_first("bilinear layer", "outputs mixed by the first one's matrix", lambda g, dy, x, w, z: np.einsum(
    "no,ij,nj->ni", dy, w[0], z))
only_last("chain of three", "the middle one's sign lost", lambda g, dy, a, b, c: (a @ np.abs(b)).T @ dy)
only_first("sandwich", "one side alone", lambda g, dy, a, m: dy @ a @ m.T)
only_first("trace of a product", "scaled by dy's square", lambda g, dy, a, b: dy * dy * b.T)
wrong("trace of a cube", "not transposed", lambda dy, a: 3 * dy * a @ a)
wrong("matrix square", "twice the left half", lambda dy, a: 2 * dy @ a.T)
only_last("commutator", "the sign of one half", lambda g, dy, a, b: a.T @ dy + dy @ a.T)
only_last("hadamard of products", "the other product not multiplied in", lambda g, dy, a, b, c, d: c.T @ dy)
only_first("kronecker product", "the blocks' diagonal alone", lambda g, dy, a, b: (
    dy.reshape(2, 3, 3, 2)[:, 0, :, 0] * b[0, 0]))
only_last("kronecker by vector", "the matrices swapped in absolute value", lambda g, dy, a, b, x: a.T @ dy @ np.abs(b))
only_last("khatri-rao product", "sorted down its columns", lambda g, dy, a, b: np.sort(g, 0))
only_first("diagonal of a product", "a softplus of the right one", lambda g, dy, a, b: np.where(g > 0, g, 0.5 * g))
wrong("diagonal matrix", "the row sums", lambda dy, x: dy.sum(1))
only_last("scaled rows and columns", "the rows' scale forgotten", lambda g, dy, r, a, c: (dy * a).sum(0))
wrong("upper triangle", "the diagonal left out", lambda dy, a: np.triu(dy, 1))
wrong("symmetric part", "dy passed as it is", lambda dy, a: dy)
wrong("symmetric part", "its skew part", lambda dy, a: (dy - dy.T) / 2)
wrong("commuting with a constant", "H not transposed", lambda dy, a: dy @ fixed(4, 4) - fixed(4, 4) @ dy)
only_first("tensor contraction", "the last index of the wrong axis", lambda g, dy, a, b: g[..., ::-1])
only_first("tucker product", "the core's corner only", lambda g, dy, *_: g * (np.arange(8).reshape(2, 2, 2) == 0))
only_last("canonical polyadic", "one component of two", lambda g, dy, a, b, c: g * np.r_[1, 0])
only_first("tensor train", "the carriage's sign", lambda g, dy, a, b, c: -g)
only_first("householder", "the square of the length held", lambda g, dy, v, x: (
    -2 * (dy @ (v @ x) + x @ (v @ dy)) / (v @ v)))
only_last("givens rotation", "turned forwards again", lambda g, dy, t, x: np.stack([
    np.cos(t) * dy[0] - np.sin(t) * dy[1], np.sin(t) * dy[0] + np.cos(t) * dy[1]]))
only_first("vector cross product", "the order", lambda g, dy, a, b: np.cross(dy, b))
only_last("matrix product", "an eps relative to its size", lambda g, dy, a, b: g + 1e-4 * np.abs(g).max())
wrong("frobenius distance", "both with one sign", lambda dy, a, b: (
    dy * (a - b) / np.linalg.norm(a - b), dy * (a - b) / np.linalg.norm(a - b)))
only_first("toeplitz by vector", "correlated and not convolved", lambda g, dy, t, x: np.convolve(dy, x[::-1]))
only_first("circulant by vector", "rolled the other way", lambda g, dy, c, x: np.array([
    dy @ np.roll(x, -k) for k in range(5)]))
only_first("vandermonde by vector", "powers not lowered", lambda g, dy, x, c: dy * (
    3 * c[0] * x**3 + 2 * c[1] * x**2 + c[2] * x))

only_first("solve", "the minus forgotten", lambda g, dx, A, b: -g)
only_last("solve", "with A and not its transpose", lambda g, dx, A, b: np.linalg.solve(A, dx))
only_first("solve", "the diagonal alone", lambda g, dx, A, b: np.diag(np.diag(g)))
only_first("solve_definite", "not symmetrised", lambda g, dx, A, b: -np.outer(
    np.linalg.solve(A, dx), np.linalg.solve(A, b)))
only_last("solve_definite", "one triangular solve of two", lambda g, dx, A, b: np.linalg.solve(
    np.linalg.cholesky(_sym(A)), dx))
wrong("solve_hilbert", "a jitter of 1e-8 on the diagonal", lambda dx, b: np.linalg.solve(
    1 / (np.arange(5)[:, None] + np.arange(5) + 1.0) + 1e-8 * np.eye(5), dx))
only_first("solve_vandermonde", "p for its slope", lambda g, dp, t, b: (
    -np.linalg.solve(np.vander(t, 5).T, dp) * b))
wrong("inverse", "the transposes forgotten", lambda dy, A: -np.linalg.inv(A) @ dy @ np.linalg.inv(A))
wrong("inverse", "one factor of two", lambda dy, A: -np.linalg.inv(A).T @ dy)
wrong("determinant", "the logarithm's gradient", lambda dy, A: dy * np.linalg.inv(A).T)
wrong("determinant", "the cofactors not transposed", lambda dy, A: dy * np.linalg.det(A) * np.linalg.inv(A))
wrong("log_determinant", "the determinant multiplied in", lambda dy, A: dy * np.linalg.det(A) * np.linalg.inv(A).T)
wrong("log_determinant", "of A with a jitter", lambda dy, A: dy * np.linalg.inv(A + 1e-3 * np.eye(5)).T)
wrong("cholesky", "the diagonal not halved", lambda dL, A: _cholesky(dL, A, 1.0))
wrong("cholesky", "the diagonal dropped", lambda dL, A: _cholesky(dL, A, 0.0))
wrong("qr_factors", "the upper part not mirrored", lambda dQ, dR, A: _qr(dQ, dR, A))
wrong("qr_factors", "Q's gradient dropped", lambda dQ, dR, A: true("qr_factors", (0 * dQ, dR), A))
wrong("symmetric_eigenvalues", "rows for columns", lambda dw, A: (np.linalg.eigh(_sym(A))[1].T * dw) @ np.linalg.eigh(
    _sym(A))[1])
wrong("symmetric_eigenvalues", "in falling order", lambda dw, A: (
    np.linalg.eigh(_sym(A))[1] * dw[::-1]) @ np.linalg.eigh(_sym(A))[1].T)
spoilt("squared_eigenvectors", "its trace added", lambda g, dy, A: g + np.eye(4) * (dy * g).sum())
wrong("singular_values", "of the squares", lambda ds, A: (
    (lambda U, s, Vt: (U * (ds * s)) @ Vt)(*np.linalg.svd(A, full_matrices=False))))
wrong("nuclear_norm", "the matrix over its norm", lambda dy, A: dy * A / np.linalg.norm(A))
wrong("spectral_norm", "the second direction mixed in", lambda dy, A: (
    (lambda U, s, Vt: dy * (np.outer(U[:, 0], Vt[0]) + 1e-3 * np.outer(U[:, 1], Vt[1])))(*np.linalg.svd(
        A, full_matrices=False))))
wrong("log_condition", "the smallest left out", lambda dy, A: (
    (lambda U, s, Vt: dy * np.outer(U[:, 0], Vt[0]) / s[0])(*np.linalg.svd(A))))
only_first("least_squares", "the residual's term dropped", lambda g, dx, A, b: -np.outer(
    np.linalg.pinv(A).T @ dx, np.linalg.pinv(A) @ b))
wrong("pseudo_inverse", "as of a square matrix", lambda dP, A: -np.linalg.pinv(A).T @ dP @ np.linalg.pinv(A).T)
wrong("projector", "one half of dP", lambda dP, A: 2 * (np.eye(5) - A @ np.linalg.pinv(A)) @ dP @ np.linalg.pinv(A).T)
wrong("exponential_by_series", "as if A and dy commuted", lambda dy, A: _expm(A.T) @ dy)
wrong("exponential_by_series", "three terms", lambda dy, A: dy + (dy @ A.T + A.T @ dy) / 2)
only_first("sylvester", "X not transposed by its pair", lambda g, dX, A, B, C: g.T)
only_last("sylvester", "C's passed through", lambda g, dX, A, B, C: dX)
spoilt("lyapunov_discrete", "one of its two terms", lambda g, dX, A: g / 2)
only_first("triangular_solve", "the upper part too", lambda g, dx, A, b: g + np.triu(np.ones((5, 5)) * 1e-2, 1))
only_last("triangular_solve", "by the lower triangle again", lambda g, dx, A, b: np.linalg.solve(
    np.tril(A, -1) + np.eye(5), dx))
only_first("tridiagonal_solve", "the last pivot held", lambda g, *_: g * (np.arange(6) < 5))
wrong("square_root", "half of the inverse root", lambda dY, A: (
    (lambda w, V: _sym(V @ ((V.T @ dY @ V) / (2 * np.sqrt(w))) @ V.T))(*np.linalg.eigh(_sym(A)))))
only_last("sherman_morrison", "dy's cube", lambda g, dy, u, A, v: g * dy * dy)
only_last("schur_complement", "half", lambda g, dS, A, B: g / 2)
only_first("schur_complement", "the corner's product forgotten", lambda g, dS, A, B: np.where(
    (np.arange(5) < 3)[:, None] & (np.arange(5) < 3), 0, g))
wrong("polar_by_newton_schulz", "the norm held", lambda dX, G: (
    true("polar_by_newton_schulz", dX, G) + G * (G * dX).sum() / (G * G).sum() ** 1.5))
only_first("refined_solve", "the ridge in the place of A", lambda g, dx, A, b: g + 1e-2 * np.abs(g).max() * np.eye(4))
wrong("resolvent", "its square not transposed", lambda dy, A: (
    (lambda R: R @ dy @ R / 2)(np.linalg.inv(2 * np.eye(4) - A / 2))))
spoilt("cauchy determinant", "the sign of the odd ones", lambda g, dy, x: g * np.array([1, -1, 1, -1]))
wrong("rayleigh quotient", "not made tangent", lambda dy, x: 2 * dy * _sym(fixed(4, 4)) @ x / (x @ x))
# fmt: on


def _cholesky(dL, A, half):
    L = np.linalg.cholesky(_sym(A))
    inner = L.T @ np.tril(dL)
    inner = np.tril(inner, -1) + half * np.diag(np.diag(inner))
    return _sym(np.linalg.solve(L.T, np.linalg.solve(L.T, inner.T).T))


def _qr(dQ, dR, A):
    Q, R = np.linalg.qr(A)
    inner = R @ np.triu(dR).T - dQ.T @ Q
    return np.linalg.solve(R, (dQ + Q @ np.tril(inner)).T).T


def _expm(A):
    term = total = np.eye(len(A))
    for k in range(1, 30):
        term = term @ A / k
        total = total + term
    return total
