"""Normalisation: by mean and variance, and by the root of the mean square."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npora.nn.linear import rows
from npora.nn.module import Array, Identities, Module, Named, Parameter, Pullback, declares
from npora.nn.threads import by_rows


def _rows_sum_to_zero(inputs: Named, gradients: Named) -> Identities:
    yield "Σ dx = 0", gradients["x"]


@declares(_rows_sum_to_zero)
def normalize(x: Array, eps: float) -> tuple[Array, Pullback]:
    """x̂ = (x − μ) / σ with σ² = mean((x − μ)²) + eps over the last axis, the core of LayerNorm (Ba et al., 2016).

        dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂)) / σ

    μ's share is the first mean, σ's the second. Identity: Σ_d dx_d = 0. The variance is a mean of squares and not
    `np.var`, whose modulus would break complex steps.
    """

    def formula(x: Array) -> tuple[Array, Array]:
        xhat = x - x.mean(axis=-1, keepdims=True)
        rstd = 1 / np.sqrt((xhat * xhat).mean(axis=-1, keepdims=True) + eps)  # [...,1]
        xhat *= rstd
        return xhat, rstd

    def pullback(dxhat: Array, xhat: Array, rstd: Array) -> Array:
        dx: Array = dxhat - dxhat.mean(axis=-1, keepdims=True)
        dx -= xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)
        dx *= rstd
        return dx

    xhat, rstd = by_rows(formula, x)

    def backward(dxhat: Array) -> Array:
        dx: Array = by_rows(pullback, dxhat, xhat, rstd)
        return dx

    return xhat, backward


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
        weight, bias = self.weight, self.bias
        gamma = weight.data
        xhat, back_normalize = normalize(x, self.eps)

        def backward(dy: Array) -> Array:
            if weight.requires_grad:
                weight.accumulate((rows(dy) * rows(xhat)).sum(axis=0))  # (1) [d]
            if bias.requires_grad:
                bias.accumulate(rows(dy).sum(axis=0))  # (2) [d]
            return back_normalize(dy * gamma)  # (3)

        return xhat * gamma + bias.data, backward

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        if gradients:
            yield from _rows_sum_to_zero(inputs, gradients)


def rms_normalize(x: Array, eps: float) -> tuple[Array, Pullback]:
    """x̂ = x / ρ with ρ² = mean(x²) + eps over the last axis, the core of RMSNorm (Zhang and Sennrich, 2019).

    dx = (dx̂ − x̂ mean(dx̂ ⊙ x̂)) / ρ
    """

    def formula(x: Array) -> tuple[Array, Array]:
        r = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)  # [...,1]
        return x * r, r

    def pullback(dxhat: Array, xhat: Array, r: Array) -> Array:
        dx: Array = dxhat - xhat * (dxhat * xhat).mean(axis=-1, keepdims=True)
        dx *= r
        return dx

    xhat, r = by_rows(formula, x)

    def backward(dxhat: Array) -> Array:
        dx: Array = by_rows(pullback, dxhat, xhat, r)
        return dx

    return xhat, backward


class RMSNorm(Module):
    """y = γ ⊙ x̂ with x̂ = x/ρ over the last axis: no mean, no bias (T5's and Llama's).    x, y [...,d]  γ [d]

    dγ = Σₙ dyₙ ⊙ x̂ₙ        (1)
    dx = rms_normalize's pullback of γ ⊙ dy      (2)
    """

    def __init__(self, normalized_shape: int, eps: float = 1e-6, *, dtype: npt.DTypeLike = np.float32) -> None:
        self.weight = Parameter(np.ones(normalized_shape, dtype=dtype))
        self.eps = eps

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        weight = self.weight
        gamma = weight.data
        xhat, back_normalize = rms_normalize(x, self.eps)

        def backward(dy: Array) -> Array:
            if weight.requires_grad:
                weight.accumulate((rows(dy) * rows(xhat)).sum(axis=0))  # (1) [d]
            return back_normalize(dy * gamma)  # (2)

        return xhat * gamma, backward
