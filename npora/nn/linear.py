"""The linear layer, and the same layer with its matrix stored the other way round."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from npora.machine.product import product
from npora.nn import init
from npora.nn.contract import activations
from npora.nn.init import Source
from npora.nn.module import Array, Module, Parameter, Pullback


class Linear(Module):
    """y = x Wᵀ + b.    x [...,i]  W [o,i]  b [o]  →  y [...,o]

    With n running over the leading axes:

        dx = dy W           (1)   since ∂y_o/∂x_i = W_oi
        dW = Σₙ dyₙ xₙᵀ     (2)
        db = Σₙ dyₙ         (3)

    A frozen W skips (2): a third of the layer's arithmetic, and x need not be kept. Where nobody reads dx, a caller
    says so (`dx_is_read=False`): (1) is skipped, and a 0 without axes returned, which adds to anything.

    W starts as U(±1/√i), b as 0. `rng` (a Generator or a seed) draws W.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: Source | int | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.weight = Parameter(init.kaiming_uniform(init.default_rng(rng), (out_features, in_features), dtype))
        self.bias = Parameter(np.zeros(out_features, dtype=dtype)) if bias else None

    @property
    def matrix(self) -> Array:
        """W [o,i], whichever way the weight is stored."""
        return self.stored(self.weight.data)

    def stored(self, W: Array) -> Array:
        """A matrix [o,i] as the weight stores it: as it is. Its own inverse."""
        return W

    @property
    def in_features(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def out_features(self) -> int:
        return int(self.matrix.shape[0])

    def forward(
        self, x: Array, rng: np.random.Generator | None = None, dx_is_read: bool = True
    ) -> tuple[Array, Pullback]:
        """`rng` goes unused: it is for the layers that may stand in this one's place, such as LoRALinear, and are
        called with the same arguments."""
        W = self.matrix
        return self.affine(x, lambda: W, dx_is_read)

    def affine(self, x: Array, matrix: Callable[[], Array], dx_is_read: bool = True) -> tuple[Array, Pullback]:
        """The layer with the matrix W [o,i] in its weight's place: the weight itself, or what LoRA makes of it, which
        is asked for again in backward so that it need not be kept."""
        weight, bias, stored, W = self.weight, self.bias, self.stored, matrix()
        x = activations(self, x, W)
        kept = x if weight.requires_grad else None
        y = matmul(x, W.T)  # [...,o]
        if bias is not None:
            y += bias.data

        def backward(dy: Array) -> Array:
            if kept is not None:
                weight.accumulate(stored(product(rows(dy).T, rows(kept))))  # (2) [o,i]
            if bias is not None and bias.requires_grad:
                bias.accumulate(rows(dy).sum(axis=0))  # (3) [o]
            return matmul(dy, matrix()) if dx_is_read else np.zeros((), dy.dtype)  # (1) [...,i]

        return y, backward


class Conv1D(Linear):
    """y = x W + b with W stored as [i,o]: GPT-2's linear layer, under its name in transformers.

    As a matrix [o,i] it is the stored weight's transpose, a view; the mathematics is Linear's.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: Source | int | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        super().__init__(in_features, out_features, bias, rng=rng, dtype=dtype)
        self.weight.data = np.ascontiguousarray(self.weight.data.T)  # [o,i] → [i,o]

    def stored(self, W: Array) -> Array:
        return np.transpose(W)  # [o,i] ↔ [i,o]


def rows(x: Array) -> Array:
    """All leading axes as one."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # [...,d] → [n,d]


def matmul(x: Array, W: Array) -> Array:
    """x W as one product, which for an x of more than two axes `x @ W` is not.    x [...,i]  W [i,o]  →  [...,o]"""
    return product(rows(x), W).reshape(*x.shape[:-1], W.shape[1])  # [...,i] → [n,i] → [n,o] → [...,o]
