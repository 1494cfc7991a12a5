"""Normalisation: by mean and variance, and by the root of the mean square."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from npora.nn.contract import checked_input
from npora.nn.linear import rows
from npora.nn.module import Array, Identities, Named, Parameter, Pullback, declares
from npora.nn.weighted import Weighted


def _rows_sum_to_zero(inputs: Named, gradients: Named) -> Identities:
    if gradients:
        yield "Σ dx = 0", gradients["x"]


@declares(_rows_sum_to_zero)
def normalize(x: Array, eps: float) -> tuple[Array, Pullback]:
    """x̂ = (x − μ) / σ with μ = mean(x) and σ² = mean((x − μ)²) + eps over the last axis.    x, x̂ [...,i]

        dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ ⊙ x̂)) / σ     (1)

    The first mean comes through μ, as ∂μ/∂x_j = 1/i, and the second through σ, as ∂σ/∂x_j = x̂_j/i. Kept are x̂ and 1/σ.
    The variance is a mean of squares and not `np.var`, whose modulus would break complex steps. Identity: Σ_j dx_j = 0.
    """
    centred = x - _mean(x)
    rstd = 1 / np.sqrt(_mean(centred * centred) + eps)  # [...,1]
    xhat = centred * rstd

    def backward(dxhat: Array) -> Array:
        return (dxhat - _mean(dxhat) - xhat * _mean(dxhat * xhat)) * rstd  # (1)

    return xhat, backward


def rms_normalize(x: Array, eps: float) -> tuple[Array, Pullback]:
    """x̂ = x / ρ with ρ² = mean(x²) + eps over the last axis.    x, x̂ [...,i]

        dx = (dx̂ − x̂ mean(dx̂ ⊙ x̂)) / ρ     (1)

    The mean comes through ρ, as ∂ρ/∂x_j = x̂_j/i. Kept are x̂ and 1/ρ.
    """
    r = 1 / np.sqrt(_mean(x * x) + eps)  # [...,1]
    xhat = x * r

    def backward(dxhat: Array) -> Array:
        return (dxhat - xhat * _mean(dxhat * xhat)) * r  # (1)

    return xhat, backward


def _mean(x: Array) -> Array:
    return x.sum(axis=-1, keepdims=True) / x.shape[-1]  # [...,1]


class LayerNorm(Weighted):
    """y = γ ⊙ x̂ + β with x̂ = (x − μ)/σ over the last axis (Ba et al., 2016).    x, y [...,i]  γ, β [i]

    With n running over the leading axes:

        dγ = Σₙ dyₙ ⊙ x̂ₙ                (1)
        dβ = Σₙ dyₙ                     (2)
        dx = `normalize`'s of γ ⊙ dy    (3)   since dx̂ = γ ⊙ dy

    Kept is what `normalize` keeps, x̂ and 1/σ. γ starts as 1, β as 0; without a bias, β = 0.
    """

    start: ClassVar[float] = 1  # where the weight begins

    def __init__(
        self, normalized_shape: int, eps: float = 1e-5, bias: bool = True, *, dtype: npt.DTypeLike = np.float32
    ) -> None:
        self.weight = Parameter(np.full(normalized_shape, self.start, dtype=dtype))
        self.bias = Parameter(np.zeros(normalized_shape, dtype=dtype)) if bias else None
        self.eps = eps

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        weight, bias, gamma = self.weight, self.bias, self.weight.data
        xhat, back_normalize = normalize(checked_input(self, x, gamma), self.eps)

        def backward(dy: Array) -> Array:
            if weight.requires_grad:
                weight.accumulate((rows(dy) * rows(xhat)).sum(axis=0))  # (1) [i]
            if bias is not None and bias.requires_grad:
                bias.accumulate(rows(dy).sum(axis=0))  # (2) [i]
            return back_normalize(gamma * dy)  # (3)

        return gamma * xhat if bias is None else gamma * xhat + bias.data, backward

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        return _rows_sum_to_zero(inputs, gradients)


class RMSNorm(Weighted):
    """y = γ ⊙ x̂ with x̂ = x/ρ over the last axis (Zhang and Sennrich, 2019): Llama's and T5's.    x, y [...,i]  γ [i]

        dγ = Σₙ dyₙ ⊙ x̂ₙ                    (1)
        dx = `rms_normalize`'s of γ ⊙ dy    (2)   since dx̂ = γ ⊙ dy

    Kept are x̂ and 1/ρ.
    """

    start: ClassVar[float] = 1  # where the weight begins
    bias: None = None

    def __init__(self, normalized_shape: int, eps: float = 1e-6, *, dtype: npt.DTypeLike = np.float32) -> None:
        self.weight = Parameter(np.full(normalized_shape, self.start, dtype=dtype))
        self.eps = eps

    def gamma(self) -> Array:
        """γ [i], of which the weight is the part that is learnt: ∂γ/∂weight = 1."""
        return self.weight.data

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        weight, gamma = self.weight, self.gamma()
        xhat, back_normalize = rms_normalize(checked_input(self, x, gamma), self.eps)

        def backward(dy: Array) -> Array:
            if weight.requires_grad:
                weight.accumulate((rows(dy) * rows(xhat)).sum(axis=0))  # (1) [i]
            return back_normalize(gamma * dy)  # (2)

        return gamma * xhat, backward


class CentredRMSNorm(RMSNorm):
    """y = (1 + w) ⊙ x̂, whose weight starts at 0: Gemma's. Otherwise as RMSNorm, and dw is its dγ.    w [i]"""

    start: ClassVar[float] = 0

    def gamma(self) -> Array:
        return 1 + self.weight.data
