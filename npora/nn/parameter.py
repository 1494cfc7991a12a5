"""A parameter: an array that a layer owns, and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from npora.machine.stored import Stored, form_of
from npora.nn.contract import Array, unfit_gradient
from npora.nn.grad_mode import this_thread


class Parameter:
    """A parameter has its value `data`, its accumulated gradient `grad`, and `requires_grad`, whether it is trained.

    A parameter keeps its identity for life; to give it another value assign `data`, or write into it in place.
    Frozen (`requires_grad=False`) means that `data` is read-only, so that a write raises in NumPy itself; a copy and a
    pickle are frozen too. Thawing copies: bytes that were frozen once are never written to. A trainable parameter may
    hold a read-only array too (a memory-mapped checkpoint); the optimiser copies it before its first write. In an
    array's place a frozen one may hold a stored matrix (`machine.stored`); thawing makes that an array of its floats.
    """

    __slots__ = ("_data", "_requires_grad", "grad")

    def __init__(self, data: npt.ArrayLike | Stored, requires_grad: bool = True) -> None:
        self.grad: Array | None = None
        self._requires_grad = bool(requires_grad)
        self.data = data if isinstance(data, Stored) else np.asarray(data)  # type: ignore[assignment]

    @property
    def data(self) -> Array:
        return self._data

    @data.setter
    def data(self, value: Array) -> None:
        if not np.issubdtype(value.dtype, np.inexact) and value.dtype.name != "bfloat16":  # that of ml_dtypes
            raise TypeError(f"a parameter holds floating-point or complex numbers, not {value.dtype}")
        if not self._requires_grad:
            value.flags.writeable = False
        elif isinstance(value, Stored):
            raise TypeError(
                f"a trainable parameter holds an array, and no matrix in {value.form}: freeze it first, or pass "
                "np.asarray(matrix)"
            )
        self._data = value

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and not self._requires_grad:
            self._data = np.array(self._data, order="C")
        self._requires_grad = bool(value)
        if not value:
            self.grad = None
            self._data.flags.writeable = False

    def __getstate__(self) -> tuple[Array, bool, Array | None]:
        return self._data, self._requires_grad, self.grad

    def __setstate__(self, state: tuple[Array, bool, Array | None]) -> None:
        """Of a copy or a pickle: NumPy makes arrays that can be written to, whatever they are copies of."""
        data, self._requires_grad, self.grad = state
        self.data = data

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype

    @property
    def size(self) -> int:
        return self._data.size

    def accumulate(self, gradient: Array) -> None:
        """Add to `grad`. The first gradient is copied, so that `grad` never aliases what backward computed with."""
        if gradient.shape != self.shape or gradient.dtype != self.dtype:
            raise unfit_gradient(gradient, self.shape, self.dtype)
        apart = this_thread.gradients
        so_far = self.grad if apart is None else apart.get(self)
        if so_far is not None:
            so_far += gradient
        elif apart is None:
            self.grad = gradient.copy()
        else:
            apart[self] = gradient.copy()

    def __repr__(self) -> str:
        state = "trainable" if self.requires_grad else "frozen"
        return f"Parameter(shape={self.shape}, dtype={form_of(self.data)}, {state})"
