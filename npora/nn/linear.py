"""The linear layer, and the same layer with its matrix stored the other way round."""

from __future__ import annotations

import copy
import math

import numpy as np
import numpy.typing as npt

from npora.machine.product import product
from npora.nn import init
from npora.nn.contract import checked_input
from npora.nn.init import Seed
from npora.nn.module import Array, Parameter, Pullback
from npora.nn.weighted import Weighted


class Linear(Weighted):
    """y = x Wᵀ + b.    x [...,i]  W [o,i]  b [o]  →  y [...,o]

    With n running over the leading axes:

        dx = dy W           (1)   since ∂y_o/∂x_i = W_oi
        dW = Σₙ dyₙ xₙᵀ     (2)
        db = Σₙ dyₙ         (3)

    Kept is x, and that for (2) alone: a frozen W skips it, a third of the layer's arithmetic, and x is not kept.

    W starts as U(±1/√i), b as 0. `rng` (a Generator or a seed) draws W.
    """

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, *, rng: Seed = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        W = init.kaiming_uniform(init.default_rng(rng), (out_features, in_features), dtype)
        self.weight = Parameter(np.ascontiguousarray(self.turned(W)))  # W itself, but for Conv1D
        self.bias = Parameter(np.zeros(out_features, dtype=dtype)) if bias else None

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        """`rng` is not used here. What may stand in this layer's place is called alike, and drops out with it."""
        weight, bias, W = self.weight, self.bias, self.weight.data
        x = checked_input(self, x, W)
        kept = x if weight.requires_grad else None
        y = matmul(x, W.T)  # [...,o]
        if bias is not None:
            y = y + bias.data

        def backward(dy: Array) -> Array:
            if kept is not None:
                weight.accumulate(product(rows(dy).T, rows(kept)))  # (2) [o,i]
            if bias is not None and bias.requires_grad:
                bias.accumulate(rows(dy).sum(axis=0))  # (3) [o]
            return matmul(dy, W)  # (1) [...,i]

        return y, backward

    def product(self, x: Array) -> tuple[Array, Pullback]:
        """y = x Wᵀ: the layer without its b.    x [...,i]  →  y [...,o]"""
        linear = copy.copy(self)
        linear.bias = None
        return linear.forward(x)


class Conv1D(Linear):
    """y = x W + b with W stored as [i,o]: GPT-2's linear layer, under its name in transformers.    x [...,i]  y [...,o]

        dx = dy Wᵀ          (1)
        dW = Σₙ xₙᵀ dyₙ     (2)
        db = Σₙ dyₙ         (3)

    It is Linear but for the way round that the weight is held, which spares a copy of each gradient.
    """

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        weight, bias, W = self.weight, self.bias, self.weight.data
        x = checked_input(self, x, W.T)
        kept = x if weight.requires_grad else None
        y = matmul(x, W)  # [...,o]
        if bias is not None:
            y = y + bias.data

        def backward(dy: Array) -> Array:
            if kept is not None:
                weight.accumulate(product(rows(kept).T, rows(dy)))  # (2) [i,o]
            if bias is not None and bias.requires_grad:
                bias.accumulate(rows(dy).sum(axis=0))  # (3) [o]
            return matmul(dy, W.T)  # (1) [...,i]

        return y, backward

    def turned(self, W: Array) -> Array:
        return W.T  # [o,i] → [i,o], and back


def rows(x: Array) -> Array:
    """Return x with all its leading axes as one."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # [...,i] → [n,i]


def matmul(x: Array, W: Array) -> Array:
    """Return x W, computed as one product, which for an x of more than two axes `x @ W` is not.

    x [...,i]  W [i,o]  →  [...,o]
    """
    return product(rows(x), W).reshape(*x.shape[:-1], W.shape[1])  # [...,i] → [n,i] → [n,o] → [...,o]
