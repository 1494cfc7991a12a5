"""A matrix that lies in memory in a form of its own, and is floats where it is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.mixins import NDArrayOperatorsMixin

_Array = npt.NDArray[Any]
_PIECE = 1 << 18  # elements: a megabyte as float32


class Stored(NDArrayOperatorsMixin):
    """A stored matrix stands in an array's place, where the array would take more memory than what it is made of.

    Indexed, it gives floats: `W[ids]` some rows, `W[rows, columns]` a part, `W[:]` all of it. A product reads one part
    after another (`machine.product`). Whatever else is done with it is done with the array of all its floats, which is
    formed for that and not kept: np.asarray(W), W + 1, np.isfinite(W).

    It cannot be changed, so that a copy of it is itself.
    A form of storage writes `form`, `kind`, `__init__` and `__getitem__`; one that is in blocks also `grain`.
    """

    form: str  # its name for people
    kind: str | None  # safetensors' name for it; None where that has none, and the floats that it gives are written
    is_exact = True  # whether it is known by its floats, and so is the same matrix in any exact form; else by its bits
    dtype = np.dtype(np.float32)  # of what it gives, and so of its products
    grain = (1, 1)  # rows and columns that are widened together: parts whose edges are multiples waste nothing
    bits: _Array  # what it is made of
    shape: tuple[int, ...]
    original: Any = None  # what it was before it was quantised, where that is still in its file

    def __getitem__(self, index: Any) -> _Array:
        raise NotImplementedError(f"{type(self).__name__} does not say what its parts are")

    def __setitem__(self, index: Any, value: Any) -> None:
        raise ValueError(f"a matrix in {self.form} is read-only")

    @property
    def T(self) -> Stored:
        return Transposed(self)

    def of_row(self, x: _Array, rows: slice, columns: slice) -> _Array:
        """x W[rows, columns].    x [1,i] → [1,o].    A form that need not widen each number for one row says so."""
        return np.asarray(x @ self[rows, columns])

    def of_turned_row(self, x: _Array, rows: slice, columns: slice) -> _Array:
        """x W[rows, columns]ᵀ.    x [1,i] → [1,o]"""
        return np.asarray(x @ self[rows, columns].T)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return self.bits.nbytes

    @property
    def strides(self) -> tuple[int, ...]:
        """The strides of what it is made of, which say in which order its numbers lie."""
        return self.bits.strides

    @property
    def flags(self) -> Any:
        return self.bits.flags

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> _Array:
        if copy is False:
            raise ValueError(f"a matrix in {self.form} becomes an array of floats by a copy alone")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        return getattr(ufunc, method)(*(np.asarray(x) if isinstance(x, Stored) else x for x in inputs), **keywords)

    def astype(self, dtype: npt.DTypeLike, copy: bool = True) -> Stored:
        """Return the matrix that gives its floats in this dtype, and is stored as this one is."""
        return self if self.dtype == dtype else InDtype(self, np.dtype(dtype))

    def view(self) -> Stored:
        return self

    def copy(self) -> Stored:
        return self

    def __deepcopy__(self, memo: object) -> Stored:
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "original": None}  # a pickle would have all of its numbers

    def tobytes(self) -> bytes:
        return self.bits.tobytes()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(shape={self.shape})"


class Transposed(Stored):
    """A Transposed is the same matrix with its axes exchanged."""

    def __init__(self, of: Stored) -> None:
        self.of, self.bits, self.shape, self.dtype = of, of.bits.T, of.shape[::-1], of.dtype
        self.form, self.kind, self.is_exact, self.grain = of.form, of.kind, of.is_exact, of.grain[::-1]
        self.original = None if of.original is None else of.original.T

    @property
    def T(self) -> Stored:
        return self.of

    def __getitem__(self, index: Any) -> _Array:
        first, second = index if isinstance(index, tuple) else (index, slice(None))
        return self.of[second, first].T

    def of_row(self, x: _Array, rows: slice, columns: slice) -> _Array:
        return self.of.of_turned_row(x, columns, rows)


class InDtype(Stored):
    """An InDtype is the same matrix, whose floats are another dtype's: so a check computes in float64 with what is
    stored, and by the same way."""

    def __init__(self, of: Stored, dtype: np.dtype[Any]) -> None:
        self.of, self.bits, self.shape, self.dtype = of, of.bits, of.shape, dtype
        self.form, self.kind, self.is_exact, self.grain = of.form, of.kind, of.is_exact, of.grain
        self.original = of.original

    def __getitem__(self, index: Any) -> _Array:
        return self.of[index].astype(self.dtype)


def in_pieces(matrix: _Array | Stored) -> Iterator[_Array]:
    """Yield an array as it is; of a stored matrix yield some rows after others, as floats."""
    if not isinstance(matrix, Stored):
        yield matrix
        return
    rows = max(_PIECE // max(matrix.shape[1], 1), 1)
    for start in range(0, len(matrix), rows):
        yield matrix[start : start + rows]


def same_values(one: _Array | Stored, other: _Array | Stored) -> bool:
    """Say whether two matrices have the same shape and numbers."""
    if not isinstance(one, Stored) or not isinstance(other, Stored):
        return np.array_equal(one, other)
    return one.shape == other.shape and all(map(np.array_equal, in_pieces(one), in_pieces(other)))


def is_quantized(matrix: _Array | Stored) -> bool:
    """Say whether a matrix lies in a form that has not all floats, and is known by its bytes."""
    return isinstance(matrix, Stored) and not matrix.is_exact


def form_of(matrix: _Array | Stored) -> str:
    """Name what its numbers are as they lie in memory: "float32", "bfloat16"."""
    return matrix.form if isinstance(matrix, Stored) else str(matrix.dtype)


def bits_of(matrix: _Array | Stored) -> _Array:
    """Return the array whose bytes a matrix is."""
    return matrix.bits if isinstance(matrix, Stored) else matrix
