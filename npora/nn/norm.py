"""Normalisation: by mean and variance, and by the root of the mean square."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npora.nn.blocks import empty, in_blocks
from npora.nn.contract import activations
from npora.nn.linear import rows
from npora.nn.module import Array, Identities, Module, Named, Parameter, Pullback, declares


def _rows_sum_to_zero(inputs: Named, gradients: Named) -> Identities:
    yield "Σ dx = 0", gradients["x"]


@declares(_rows_sum_to_zero)
def normalize(x: Array, eps: float) -> tuple[Array, Pullback]:
    """x̂ = (x − μ) / σ with σ² = mean((x − μ)²) + eps over the last axis, the core of LayerNorm (Ba et al., 2016).

        dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂)) / σ

    μ's share is the first mean, σ's the second. Identity: Σ_d dx_d = 0. The variance is a mean of squares and not
    `np.var`, whose modulus would break complex steps.
    """
    xhat, rstd = _standardize(x, eps, empty(x), empty(x, width=1))
    return xhat, lambda dxhat: _standardize_back(dxhat, xhat, rstd, empty(dxhat, xhat))


def _standardize(x: Array, eps: float, xhat: Array, rstd: Array) -> tuple[Array, Array]:
    """x [...,d]  →  x̂ [...,d], 1/σ [...,1], in the arrays that are given for them"""
    np.subtract(x, _mean(x), out=xhat)
    rstd[...] = 1 / np.sqrt(_mean_product(xhat, xhat) + eps)
    xhat *= rstd
    return xhat, rstd


def _standardize_back(dxhat: Array, xhat: Array, rstd: Array, dx: Array) -> Array:
    np.subtract(dxhat, _mean(dxhat), out=dx)
    dx -= xhat * _mean_product(dxhat, xhat)
    dx *= rstd
    return dx


def _mean(x: Array) -> Array:
    # einsum adds in order where x.mean adds in pairs, and in 0.4 of the time. With a mean of 100 σ in rows of 4,096 the
    # error of x̂ in float32 is 3e-5 for it, where pairs would give 1e-5.
    mean: Array = np.einsum("...d->...", x)[..., None] / x.dtype.type(x.shape[-1])  # [...,1]
    return mean


def _mean_product(x: Array, y: Array) -> Array:
    """mean(x ⊙ y), and no array x ⊙ y."""
    mean: Array = np.einsum("...d,...d->...", x, y)[..., None] / x.dtype.type(x.shape[-1])  # [...,1]
    return mean


class LayerNorm(Module):
    """y = γ ⊙ x̂ + β with x̂ = (x − μ)/σ over the last axis (Ba et al., 2016).    x, y [...,d]  γ, β [d]

    dγ = Σₙ dyₙ ⊙ x̂ₙ        (1)
    dβ = Σₙ dyₙ             (2)
    dx = normalize's pullback of γ ⊙ dy      (3)
    """

    def __init__(self, normalized_shape: int, eps: float = 1e-5, *, dtype: npt.DTypeLike = np.float32) -> None:
        self.weight = Parameter(np.ones(normalized_shape, dtype=dtype))
        self.bias = Parameter(np.zeros(normalized_shape, dtype=dtype))
        self.eps = eps

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        weight, bias, eps = self.weight, self.bias, self.eps
        gamma, beta = weight.data, bias.data
        x = activations(self, x, gamma)

        def formula(x: Array, y: Array, xhat: Array, rstd: Array) -> None:
            _standardize(x, eps, xhat, rstd)
            np.multiply(xhat, gamma, out=y)
            y += beta

        y, xhat, rstd = empty(x, gamma, beta), empty(x), empty(x, width=1)
        in_blocks(formula, x, y, xhat, rstd)

        def backward(dy: Array) -> Array:
            if weight.requires_grad:
                weight.accumulate((rows(dy) * rows(xhat)).sum(axis=0))  # (1) [d]
            if bias.requires_grad:
                bias.accumulate(rows(dy).sum(axis=0))  # (2) [d]
            dx = empty(dy, gamma, xhat)
            in_blocks(lambda dy, *arrays: _standardize_back(dy * gamma, *arrays), dy, xhat, rstd, dx)  # (3)
            return dx

        return y, backward

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        if gradients:
            yield from _rows_sum_to_zero(inputs, gradients)


def rms_normalize(x: Array, eps: float) -> tuple[Array, Pullback]:
    """x̂ = x / ρ with ρ² = mean(x²) + eps over the last axis, the core of RMSNorm (Zhang and Sennrich, 2019).

    dx = (dx̂ − x̂ mean(dx̂ ⊙ x̂)) / ρ
    """
    xhat, r = _scale(x, eps, empty(x), empty(x, width=1))
    return xhat, lambda dxhat: _scale_back(dxhat, xhat, r, empty(dxhat, xhat))


def _scale(x: Array, eps: float, xhat: Array, r: Array) -> tuple[Array, Array]:
    """x [...,d]  →  x̂ [...,d], 1/ρ [...,1], in the arrays that are given for them"""
    r[...] = 1 / np.sqrt(_mean_product(x, x) + eps)
    np.multiply(x, r, out=xhat)
    return xhat, r


def _scale_back(dxhat: Array, xhat: Array, r: Array, dx: Array) -> Array:
    np.subtract(dxhat, xhat * _mean_product(dxhat, xhat), out=dx)
    dx *= r
    return dx


class RMSNorm(Module):
    """y = γ ⊙ x̂ with x̂ = x/ρ over the last axis: no mean, no bias (T5's and Llama's).    x, y [...,d]  γ [d]

    dγ = Σₙ dyₙ ⊙ x̂ₙ        (1)
    dx = rms_normalize's pullback of γ ⊙ dy      (2)
    """

    def __init__(self, normalized_shape: int, eps: float = 1e-6, *, dtype: npt.DTypeLike = np.float32) -> None:
        self.weight = Parameter(np.ones(normalized_shape, dtype=dtype))
        self.eps = eps

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        weight, eps = self.weight, self.eps
        gamma = weight.data
        x = activations(self, x, gamma)

        def formula(x: Array, y: Array, xhat: Array, r: Array) -> None:
            _scale(x, eps, xhat, r)
            np.multiply(xhat, gamma, out=y)

        y, xhat, r = empty(x, gamma), empty(x), empty(x, width=1)
        in_blocks(formula, x, y, xhat, r)

        def backward(dy: Array) -> Array:
            if weight.requires_grad:
                weight.accumulate((rows(dy) * rows(xhat)).sum(axis=0))  # (1) [d]
            dx = empty(dy, gamma, xhat)
            in_blocks(lambda dy, *arrays: _scale_back(dy * gamma, *arrays), dy, xhat, r, dx)  # (2)
            return dx

        return y, backward
