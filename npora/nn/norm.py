"""Normalisation: by mean and variance, and by the root of the mean square."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from npora.machine.blocks import by_rows
from npora.nn.contract import activations
from npora.nn.linear import rows
from npora.nn.module import Array, Identities, Module, Named, Parameter, Pullback, declares


def _rows_sum_to_zero(inputs: Named, gradients: Named) -> Identities:
    yield "Σ dx = 0", gradients["x"]


@declares(_rows_sum_to_zero)
def normalize(x: Array, eps: float) -> tuple[Array, Pullback]:
    """x̂ = (x − μ) / σ with σ² = mean((x − μ)²) + eps over the last axis, the core of LayerNorm (Ba et al., 2016).

        dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂)) / σ

    μ's share is the first mean, σ's the second. Identity: Σ_i dx_i = 0. The variance is a mean of squares and not
    `np.var`, whose modulus would break complex steps.
    """
    xhat, rstd = _standardized(x, eps)
    return xhat, lambda dxhat: _standardized_back(dxhat, xhat, rstd)


def _standardized(x: Array, eps: float) -> tuple[Array, Array]:
    """x [...,i]  →  x̂ [...,i], 1/σ [...,1]"""
    centred = x - _mean(x)
    rstd = 1 / np.sqrt(_mean(centred * centred) + eps)
    return centred * rstd, rstd


def _standardized_back(dxhat: Array, xhat: Array, rstd: Array) -> Array:
    return np.asarray((dxhat - _mean(dxhat) - xhat * _mean(dxhat * xhat)) * rstd)


def _mean(x: Array) -> Array:
    return np.asarray(x.sum(axis=-1, keepdims=True) / x.shape[-1])  # [...,1]


class LayerNorm(Module):
    """y = γ ⊙ x̂ + β with x̂ = (x − μ)/σ over the last axis (Ba et al., 2016).    x, y [...,i]  γ, β [i]

    dγ = Σₙ dyₙ ⊙ x̂ₙ        (1)
    dβ = Σₙ dyₙ             (2)
    dx = normalize's pullback of γ ⊙ dy      (3)
    """

    start: ClassVar[float] = 1  # where the weight begins

    def __init__(self, normalized_shape: int, eps: float = 1e-5, *, dtype: npt.DTypeLike = np.float32) -> None:
        self.weight = Parameter(np.full(normalized_shape, self.start, dtype=dtype))
        self.bias = Parameter(np.zeros(normalized_shape, dtype=dtype))
        self.eps = eps

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        weight, bias, eps = self.weight, self.bias, self.eps
        gamma, beta = weight.data, bias.data

        def formula(x: Array) -> tuple[Array, Array, Array]:
            xhat, rstd = _standardized(x, eps)
            return gamma * xhat + beta, xhat, rstd

        y, xhat, rstd = by_rows(formula, activations(self, x, gamma))

        def backward(dy: Array) -> Array:
            if weight.requires_grad:
                weight.accumulate((rows(dy) * rows(xhat)).sum(axis=0))  # (1) [i]
            if bias.requires_grad:
                bias.accumulate(rows(dy).sum(axis=0))  # (2) [i]
            return by_rows(lambda dy, *kept: _standardized_back(gamma * dy, *kept), dy, xhat, rstd)  # (3)

        return y, backward

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        if gradients:
            yield from _rows_sum_to_zero(inputs, gradients)


def rms_normalize(x: Array, eps: float) -> tuple[Array, Pullback]:
    """x̂ = x / ρ with ρ² = mean(x²) + eps over the last axis, the core of RMSNorm (Zhang and Sennrich, 2019).

    dx = (dx̂ − x̂ mean(dx̂ ⊙ x̂)) / ρ
    """
    xhat, r = _scaled(x, eps)
    return xhat, lambda dxhat: _scaled_back(dxhat, xhat, r)


def _scaled(x: Array, eps: float) -> tuple[Array, Array]:
    """x [...,i]  →  x̂ [...,i], 1/ρ [...,1]"""
    r = 1 / np.sqrt(_mean(x * x) + eps)
    return x * r, r


def _scaled_back(dxhat: Array, xhat: Array, r: Array) -> Array:
    return np.asarray((dxhat - xhat * _mean(dxhat * xhat)) * r)


class RMSNorm(Module):
    """y = γ ⊙ x̂ with x̂ = x/ρ over the last axis: no mean, no bias (T5's and Llama's).    x, y [...,i]  γ [i]

    dγ = Σₙ dyₙ ⊙ x̂ₙ        (1)
    dx = rms_normalize's pullback of γ ⊙ dy      (2)
    """

    start: ClassVar[float] = 1

    def __init__(self, normalized_shape: int, eps: float = 1e-6, *, dtype: npt.DTypeLike = np.float32) -> None:
        self.weight = Parameter(np.full(normalized_shape, self.start, dtype=dtype))
        self.eps = eps

    def gamma(self) -> Array:
        """γ [i], of which the weight is the part that is learnt: ∂γ/∂weight = 1."""
        return self.weight.data

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        weight, eps = self.weight, self.eps
        gamma = self.gamma()

        def formula(x: Array) -> tuple[Array, Array, Array]:
            xhat, r = _scaled(x, eps)
            return gamma * xhat, xhat, r

        y, xhat, r = by_rows(formula, activations(self, x, gamma))

        def backward(dy: Array) -> Array:
            if weight.requires_grad:
                weight.accumulate((rows(dy) * rows(xhat)).sum(axis=0))  # (1) [i]
            return by_rows(lambda dy, *kept: _scaled_back(gamma * dy, *kept), dy, xhat, r)  # (2)

        return y, backward


class CentredRMSNorm(RMSNorm):
    """y = (1 + w) ⊙ x̂, whose weight starts at 0: Gemma's. Otherwise as RMSNorm, and dw is its dγ.    w [i]"""

    start: ClassVar[float] = 0

    def gamma(self) -> Array:
        return 1 + self.weight.data
