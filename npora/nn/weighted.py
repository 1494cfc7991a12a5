"""What an adapter asks of the layer that it goes on."""

from __future__ import annotations

import copy
from typing import TypeVar

import numpy as np

from npora.nn.module import Array, Module, Parameter

_Layer = TypeVar("_Layer", bound="Weighted")


class Weighted(Module):
    """A Weighted is a layer with a weight, which is its W [o,i] or W turned round; a norm's, [i], is its diagonal."""

    weight: Parameter
    bias: Parameter | None

    def turned(self, W: Array) -> Array:
        """Turn W the way round that `weight` holds it; and what `weight` holds, back to W."""
        return W

    @property
    def matrix(self) -> Array:
        """W: an array, or a stored matrix that gives its floats when asked."""
        return self.turned(self.weight.data)

    def with_matrix(self: _Layer, W: Array) -> _Layer:
        """Return a layer like this one with W, frozen, as a weight of its own."""
        layer = copy.copy(self)
        layer.weight = Parameter(np.ascontiguousarray(self.turned(W)), requires_grad=False)
        return layer

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """The dtype in which the layer computes."""
        return self.weight.dtype

    @property
    def in_features(self) -> int:
        return int(self.matrix.shape[-1])

    @property
    def out_features(self) -> int:
        return int(self.matrix.shape[0])
