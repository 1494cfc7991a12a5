"""A matrix whose rows are cut into blocks of a few bytes each: what the quantised formats have in common."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from npora.machine.stored import Stored

Array = npt.NDArray[Any]
_Form = TypeVar("_Form", bound="Blocked")
_PIECE = 1 << 18  # elements that are quantised at a time


class Terms(NamedTuple):
    """w = d q + m, where k numbers in succession share d and m.    q [...,g,k]  d, m float32 [...,g]

    q is whole numbers of a byte, or float32; there is no m where it is 0.
    """

    q: Array
    d: Array
    m: Array | None = None


class Blocked(Stored):
    """The rows of a Blocked matrix are blocks of `block` numbers, of `block_bytes` bytes each.

        bits uint8 [o, ⌈i/block⌉ block_bytes]   stand for   W [o,i]

    A format writes `form`, `block`, `block_bytes` and `terms`, and where matrices are to be quantised to it `pack`. If
    its blocks share some bytes of their row, it writes `row_bytes`, `terms_in` and `narrowed` in their place. What the
    last block of a row has beyond the row's end is not read.

    With w = d q + m, of which a group of k numbers shares d and m, the product with one row x is

        y_o = Σ_g d_og (q_og · x_g) + m_og Σ x_g      (1)

    so that no number is scaled but the sums of groups.

    Raises
    ------
    TypeError: bits that are no bytes.  ValueError: bits of another shape than the matrix takes.
    """

    kind, is_exact = None, False
    block: ClassVar[int]
    block_bytes: ClassVar[int]

    def __init__(self, bits: Array, shape: tuple[int, int]) -> None:
        """bits : uint8 [o, row_bytes(i)]; they may be a read-only map of a file, and are read-only from now on
        shape : (o, i)
        """
        if bits.dtype != np.uint8:
            raise TypeError(f"the bits of {self.form} are an array of uint8; got {bits.dtype}")
        if bits.shape != (expected := (shape[0], self.row_bytes(shape[1]))):
            raise ValueError(f"a matrix {shape} in {self.form} takes bytes of shape {expected}; got {bits.shape}")
        bits.flags.writeable = False
        self.bits, self.shape, self.grain = bits, shape, (1, self.block)

    @classmethod
    def terms(cls, blocks: Array) -> Terms:
        """Return what the numbers of some blocks are made of.    uint8 [...,block_bytes] → [...,g,k] with g k = block

        Of `blocks` the last axis alone is sure to have no gaps, so that a slice of it can be viewed as another dtype.
        """
        raise NotImplementedError(f"{cls.__name__} does not say how its blocks are unpacked")

    @classmethod
    def pack(cls, blocks: Array) -> Array:
        """Return some blocks of numbers as bytes.    float32 [...,block] → uint8 [...,block_bytes]

        Raises
        ------
        ValueError: a number that the format has none near.
        """
        raise NotImplementedError(f"matrices in {cls.form} can be read here, and none can be quantised to it")

    @classmethod
    def row_bytes(cls, width: int) -> int:
        """Return how many bytes a row of so many numbers takes."""
        return cls.blocks_in(width) * cls.block_bytes

    @classmethod
    def blocks_in(cls, width: int) -> int:
        return -(-width // cls.block)

    @classmethod
    def terms_in(cls, rows: Array, blocks: slice) -> Terms:
        """Return the terms of some blocks of some rows.    uint8 [...,row_bytes] → [...,blocks,g,k]"""
        part = rows[..., blocks.start * cls.block_bytes : blocks.stop * cls.block_bytes]
        return cls.terms(part.reshape(*part.shape[:-1], blocks.stop - blocks.start, cls.block_bytes))

    @classmethod
    def narrowed(cls, rows: Array) -> Array:
        """Return some whole rows as bytes.    float32 [n, blocks, block] → uint8 [n, row_bytes]"""
        return cls.pack(rows).reshape(len(rows), -1)

    @classmethod
    def quantized(cls: type[_Form], x: Any) -> _Form:
        """Quantise a matrix [o,i], an array or a stored one, some rows at a time.

        Raises
        ------
        ValueError: it has another number of axes than two, or a number that is not finite or that the format has none
        near.  NotImplementedError: the format can only be read.
        """
        if x.ndim != 2:
            raise ValueError(f"a matrix of two axes can be in {cls.form}; got the shape {x.shape}")
        (o, i), blocks = x.shape, cls.blocks_in(x.shape[1])
        bits, at_once = np.empty((o, cls.row_bytes(i)), np.uint8), max(_PIECE // max(i, 1), 1)
        for start in range(0, o, at_once):
            part = x[start : start + at_once]
            rows = np.zeros((len(part), blocks * cls.block), np.float32)
            rows[:, :i] = part
            if not np.isfinite(rows).all():
                raise ValueError(f"a matrix in {cls.form} holds finite numbers; some of this one are not, as float32")
            bits[start : start + at_once] = cls.narrowed(rows.reshape(len(part), blocks, cls.block))
        return cls(bits, (o, i))

    def __getitem__(self, index: Any) -> Array:
        which, columns = index if isinstance(index, tuple) else (index, slice(None))
        if not isinstance(columns, slice) or columns.step not in (None, 1):
            return np.asarray(self)[index]
        first, last, _ = columns.indices(self.shape[1])
        last = max(first, last)
        blocks = slice(first // self.block, self.blocks_in(last))
        q, d, m = self.terms_in(self.bits[which], blocks)  # [...,blocks,g,k]
        w = q.astype(np.float32, copy=False)
        w *= d[..., None]
        if m is not None:
            w += m[..., None]
        w = w.reshape(*w.shape[:-3], (blocks.stop - blocks.start) * self.block)
        before = blocks.start * self.block
        return w[..., first - before : last - before]

    def of_turned_row(self, x: Array, rows: slice, columns: slice) -> Array:
        if columns.start % self.block:
            return super().of_turned_row(x, rows, columns)
        blocks = slice(columns.start // self.block, self.blocks_in(columns.stop))
        q, d, m = self.terms_in(self.bits[rows], blocks)
        o, k, g = len(q), q.shape[-1], (blocks.stop - blocks.start) * self.block // q.shape[-1]
        whole = np.zeros(g * k, x.dtype)
        whole[: x.shape[1]] = x[0]
        x = whole.reshape(g, k, 1)
        wide = q.reshape(o, g, k).astype(np.float32, copy=False).swapaxes(0, 1)  # [o,blocks,g,k] → [g,o,k]
        y = np.einsum("og,go->o", d.reshape(o, g), np.matmul(wide, x)[..., 0])  # (1)
        if m is not None:
            y += m.reshape(o, g) @ x.sum(axis=(1, 2))
        return y[None]
