"""A value that several layers read."""

from __future__ import annotations

import numpy as np

from npora.nn.module import Array


class Shared:
    """A value that several layers read, and the sum of the gradients that they give back for it.

        v ↦ v, v, …        dv = Σᵢ dvᵢ        (1)

    Each layer's backward calls `add`; who made the value calls `gradient` when all of them have run.
    """

    def __init__(self, value: Array) -> None:
        self.value = value
        self._sum: Array | None = None

    def add(self, dvalue: Array) -> None:
        self._sum = dvalue if self._sum is None else self._sum + dvalue  # (1)

    def gradient(self) -> Array:
        """dv, zeros where no layer gave any. The sum begins anew."""
        total, self._sum = self._sum, None
        return np.zeros_like(self.value) if total is None else total
