"""The patches of an image, each made a row by one linear map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npora.nn import init
from npora.nn.init import Seed
from npora.nn.linear import matmul
from npora.nn.module import Array, Module, Parameter, Pullback


class PatchProjection(Module):
    """y = u Wᵀ + b, where u [n,i] are the patches of x, read row by row: a convolution whose stride is the size of its
    kernel (Dosovitskiy et al., 2020, eq. 1).

    x [batch, channels, height, width]  W [o, channels, p, q]  b [o]  →  y [n,o]

    The patches of an image, p × q each, are n/batch rows one behind the other, and W is a matrix [o,i] with
    i = channels · p · q. Each number of x is in one patch, so that dx is du put back where u came from:

        du = dy W           (1)
        dW = Σₙ dyₙ uₙᵀ     (2)
        db = Σₙ dyₙ         (3)
        dx = du, folded     (4)

    A frozen W skips (2), and u need not be kept. W starts as U(±1/√i), b as 0. `rng` (a Generator or a seed) draws W.

    Raises
    ------
    ValueError: x is of another form, of other channels, or its sides are no multiples of the patch's.
    """

    def __init__(
        self, channels: int, out_features: int, patch_size: tuple[int, int], *, rng: Seed = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        self.patch_size = patch_size
        i = channels * patch_size[0] * patch_size[1]
        W = init.kaiming_uniform(init.default_rng(rng), (out_features, i), dtype)
        self.weight = Parameter(W.reshape(out_features, channels, *patch_size))  # [o,i] → [o, channels, p, q]
        self.bias = Parameter(np.zeros(out_features, dtype=dtype))

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        weight, bias, shape = self.weight, self.bias, x.shape
        u = self.unfold(x)  # [n,i]
        W = weight.data.reshape(weight.shape[0], u.shape[1])  # [o,i]
        kept = u if weight.requires_grad else None

        def backward(dy: Array) -> Array:
            if kept is not None:
                weight.accumulate(matmul(dy.T, kept).reshape(weight.shape))  # (2) [o,i] → [o, channels, p, q]
            if bias.requires_grad:
                bias.accumulate(dy.sum(axis=0))  # (3) [o]
            return self.fold(matmul(dy, W), shape)  # (1) (4)

        return matmul(u, W.T) + bias.data, backward  # [n,o]

    def unfold(self, x: Array) -> Array:
        """The patches of x as rows [n,i]."""
        (p, q), channels = self.patch_size, self.weight.shape[1]
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % p or x.shape[3] % q:
            raise ValueError(
                f"images must be [batch, {channels}, a multiple of {p}, a multiple of {q}]; got shape {x.shape}"
            )
        b, _, height, width = x.shape
        patches = x.reshape(b, channels, height // p, p, width // q, q).transpose(0, 2, 4, 1, 3, 5)
        return patches.reshape(b * (height // p) * (width // q), channels * p * q)

    def fold(self, u: Array, shape: tuple[int, ...]) -> Array:
        """The images of this shape whose patches are u [n,i]."""
        (p, q), (b, channels, height, width) = self.patch_size, shape
        patches = u.reshape(b, height // p, width // q, channels, p, q).transpose(0, 3, 1, 4, 2, 5)
        return patches.reshape(shape)
