"""Matrix products of every form: y is linear in each array."""

from __future__ import annotations

import numpy as np

from tests.corpus.case import fixed, n, pair, scaled

A, B = n(3, 4), n(4, 5)
H = fixed(4, 4)

# fmt: off
pair("matrix product", [scaled(A, 70), scaled(B, 70)], lambda a, b: a @ b, lambda dy, a, b: (dy @ b.T, a.T @ dy))
pair("product with a transpose", [A, n(5, 4)], lambda a, b: a @ b.T, lambda dy, a, b: (dy @ b, dy.T @ a))
pair("matrix by vector", [A, n(4)], lambda a, x: a @ x, lambda dy, a, x: (np.outer(dy, x), a.T @ dy))
pair("inner product", [n(7), n(7)], np.dot, lambda dy, x, z: (dy * z, dy * x))
pair("outer product", [n(3), n(4)], np.outer, lambda dy, x, z: (dy @ z, x @ dy))
pair("batched product", [n(2, 3, 4), n(2, 4, 2)], lambda a, b: a @ b, lambda dy, a, b: (
    dy @ b.swapaxes(1, 2), a.swapaxes(1, 2) @ dy
))
pair("batched product, one matrix shared", [n(2, 3, 4), B], lambda a, b: a @ b, lambda dy, a, b: (
    dy @ b.T, np.tensordot(a, dy, ((0, 1), (0, 1)))
))
pair("gram matrix", [A], lambda a: a.T @ a, lambda dy, a: a @ (dy + dy.T))
pair("quadratic form", [n(4), n(4, 4)], lambda x, m: x @ m @ x, lambda dy, x, m: (
    dy * (m + m.T) @ x, dy * np.outer(x, x)
))
pair("bilinear layer", [n(3, 4), n(5, 4, 2), n(3, 2)], lambda x, w, z: np.einsum("ni,oij,nj->no", x, w, z),
     lambda dy, x, w, z: (np.einsum("no,oij,nj->ni", dy, w, z), np.einsum("no,ni,nj->oij", dy, x, z),
                          np.einsum("no,ni,oij->nj", dy, x, w)))
pair("chain of three", [n(2, 3), n(3, 4), n(4, 2)], lambda a, b, c: a @ b @ c, lambda dy, a, b, c: (
    dy @ (b @ c).T, a.T @ dy @ c.T, (a @ b).T @ dy
))
pair("sandwich", [n(3, 4), n(4, 4)], lambda a, m: a @ m @ a.T, lambda dy, a, m: (
    dy @ a @ m.T + dy.T @ a @ m, a.T @ dy @ a
))
pair("trace of a product", [n(3, 4), n(4, 3)], lambda a, b: np.trace(a @ b), lambda dy, a, b: (dy * b.T, dy * a.T))
pair("trace of a cube", [n(4, 4)], lambda a: np.trace(a @ a @ a), lambda dy, a: 3 * dy * (a @ a).T)
pair("matrix square", [n(4, 4)], lambda a: a @ a, lambda dy, a: dy @ a.T + a.T @ dy)
pair("commutator", [n(3, 3), n(3, 3)], lambda a, b: a @ b - b @ a, lambda dy, a, b: (
    dy @ b.T - b.T @ dy, a.T @ dy - dy @ a.T
))
pair("hadamard of products", [n(3, 2), n(2, 4), n(3, 2), n(2, 4)], lambda a, b, c, d: (a @ b) * (c @ d),
     lambda dy, a, b, c, d: ((dy * (c @ d)) @ b.T, a.T @ (dy * (c @ d)), (dy * (a @ b)) @ d.T,
                             c.T @ (dy * (a @ b))))
pair("kronecker product", [n(2, 3), n(3, 2)], np.kron, lambda dy, a, b: (
    np.einsum("ipjq,pq->ij", dy.reshape(2, 3, 3, 2), b), np.einsum("ipjq,ij->pq", dy.reshape(2, 3, 3, 2), a)
))
pair("kronecker by vector", [n(2, 3), n(4, 2), n(3, 2)], lambda a, b, x: a @ x @ b.T, lambda dy, a, b, x: (
    dy @ (x @ b.T).T, dy.T @ a @ x, a.T @ dy @ b
))
pair("khatri-rao product", [n(2, 4), n(3, 4)], lambda a, b: (a[:, None] * b[None]).reshape(6, 4), lambda dy, a, b: (
    (dy.reshape(2, 3, 4) * b).sum(1), (dy.reshape(2, 3, 4) * a[:, None]).sum(0)
))
pair("diagonal of a product", [A, n(4, 3)], lambda a, b: np.einsum("ij,ji->i", a, b), lambda dy, a, b: (
    dy[:, None] * b.T, (dy[:, None] * a).T
))
pair("diagonal matrix", [n(4)], np.diag, lambda dy, x: np.diag(dy).copy())
pair("scaled rows and columns", [n(3), A, n(4)], lambda r, a, c: r[:, None] * a * c, lambda dy, r, a, c: (
    (dy * a * c).sum(1), r[:, None] * dy * c, (dy * a * r[:, None]).sum(0)
))
pair("upper triangle", [n(4, 4)], np.triu, lambda dy, a: np.triu(dy))
pair("symmetric part", [n(4, 4)], lambda a: (a + a.T) / 2, lambda dy, a: (dy + dy.T) / 2)
pair("commuting with a constant", [n(4, 4)], lambda a: a @ H - H @ a, lambda dy, a: dy @ H.T - H.T @ dy)
pair("tensor contraction", [n(2, 3, 4), n(4, 3, 2)], lambda a, b: np.einsum("ijk,kjl->il", a, b), lambda dy, a, b: (
    np.einsum("il,kjl->ijk", dy, b), np.einsum("il,ijk->kjl", dy, a)
))
pair("tucker product", [n(2, 2, 2), n(3, 2), n(4, 2), n(2, 2)],
     lambda g, a, b, c: np.einsum("pqr,ip,jq,kr->ijk", g, a, b, c), lambda dy, g, a, b, c: (
         np.einsum("ijk,ip,jq,kr->pqr", dy, a, b, c), np.einsum("ijk,pqr,jq,kr->ip", dy, g, b, c),
         np.einsum("ijk,pqr,ip,kr->jq", dy, g, a, c), np.einsum("ijk,pqr,ip,jq->kr", dy, g, a, b)))
pair("canonical polyadic", [n(3, 2), n(4, 2), n(2, 2)], lambda a, b, c: np.einsum("ir,jr,kr->ijk", a, b, c),
     lambda dy, a, b, c: (np.einsum("ijk,jr,kr->ir", dy, b, c), np.einsum("ijk,ir,kr->jr", dy, a, c),
                          np.einsum("ijk,ir,jr->kr", dy, a, b)))
pair("tensor train", [n(3, 2), n(2, 4, 2), n(2, 3)], lambda a, b, c: np.einsum("ip,pjq,qk->ijk", a, b, c),
     lambda dy, a, b, c: (np.einsum("ijk,pjq,qk->ip", dy, b, c), np.einsum("ijk,ip,qk->pjq", dy, a, c),
                          np.einsum("ijk,ip,pjq->qk", dy, a, b)))
pair("householder", [n(4), n(4, 3)], lambda v, x: x - 2 * np.outer(v, v @ x) / (v @ v), lambda dy, v, x: (
    -2 * (dy @ (v @ x) + x @ (v @ dy)) / (v @ v) + 4 * (v @ dy) @ (v @ x) / (v @ v) ** 2 * v,
    dy - 2 * np.outer(v, v @ dy) / (v @ v),
))
pair("givens rotation", [n(), n(2, 4)], lambda t, x: np.stack([
    np.cos(t) * x[0] - np.sin(t) * x[1], np.sin(t) * x[0] + np.cos(t) * x[1]
]), lambda dy, t, x: (
    np.asarray(dy[0] @ (-np.sin(t) * x[0] - np.cos(t) * x[1]) + dy[1] @ (np.cos(t) * x[0] - np.sin(t) * x[1])),
    np.stack([np.cos(t) * dy[0] + np.sin(t) * dy[1], np.cos(t) * dy[1] - np.sin(t) * dy[0]]),
))
pair("vector cross product", [n(4, 3), n(4, 3)], np.cross, lambda dy, a, b: (np.cross(b, dy), np.cross(dy, a)))
pair("frobenius distance", [A, A], lambda a, b: np.linalg.norm(a - b), lambda dy, a, b: (
    dy * (a - b) / np.linalg.norm(a - b), dy * (b - a) / np.linalg.norm(a - b)
))
pair("toeplitz by vector", [n(7), n(4)], lambda t, x: np.array([t[i : i + 4] @ x for i in range(4)]), lambda dy, t, x: (
    np.convolve(dy, x), np.array([t[j : j + 4] @ dy for j in range(4)])
))
pair("circulant by vector", [n(5), n(5)], lambda c, x: np.array([np.roll(c[::-1], i + 1) @ x for i in range(5)]),
     lambda dy, c, x: (np.array([dy @ np.roll(x, k) for k in range(5)]),
                       np.array([dy @ np.roll(c, k) for k in range(5)])))
pair("vandermonde by vector", [n(4), n(4)], lambda x, c: np.vander(x, 4) @ c, lambda dy, x, c: (
    dy * (3 * c[0] * x**2 + 2 * c[1] * x + c[2]), np.vander(x, 4).T @ dy
))
# fmt: on
