"""Which rows form which sequence: inside a model a batch is rows, not padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from npora.nn.module import Array
from npora.nn.readable import Readable

Block = tuple[slice, tuple[int, int]]


class Packing(Readable):
    """The sequences of a batch as consecutive rows, without padding.

    Row-wise layers (linear, norm, activation) take rows `[n,d]` and never see sequences; attention asks for `blocks`.

    Parameters
    ----------
    mask : bool [b,t], True where a token is real. Its True cells, read row by row, are the n rows.

    Attributes
    ----------
    lengths : int [b], how many rows each sequence has; starts : int [b], the first row of each
    rows : n
    positions : int [n], the column of each row in the padded batch: Hugging Face's position ids, which count padding
    """

    def __init__(self, mask: npt.ArrayLike) -> None:
        self.mask = np.asarray(mask, dtype=bool)  # [b,t]
        if self.mask.ndim != 2:
            raise ValueError(f"a packing's mask is [batch, length], not of shape {self.mask.shape}")
        self.lengths: Array = self.mask.sum(axis=1)  # [b]
        self.starts: Array = np.cumsum(self.lengths) - self.lengths  # [b]
        self.positions = np.nonzero(self.mask)[1]  # [n]
        self.rows = len(self.positions)

    @classmethod
    def dense(cls, batch: int, length: int) -> Packing:
        """`batch` sequences of the same `length`."""
        return cls(np.ones((batch, length), dtype=bool))

    @classmethod
    def of_lengths(cls, lengths: npt.ArrayLike) -> Packing:
        """Sequences of the given lengths, each padded on its right."""
        lengths = np.asarray(lengths)
        return cls(np.arange(max(lengths, default=0)) < lengths[:, None])

    @classmethod
    def spaced(cls, lengths: npt.ArrayLike, every: int) -> Packing:
        """Sequences whose first rows stand `every` rows apart, with rows of nobody behind the shorter ones."""
        packing = cls.of_lengths(lengths)
        packing.starts = np.arange(len(packing.lengths)) * every
        packing.rows = len(packing.lengths) * every
        return packing

    @property
    def sequences(self) -> Array:
        """int [n], which sequence each real row belongs to."""
        return np.asarray(np.arange(len(self.lengths)).repeat(self.lengths))

    @property
    def offsets(self) -> Array:
        """int [n], the place of each real row in its sequence, 0 for the first; padding does not count."""
        before = np.cumsum(self.lengths) - self.lengths
        return np.asarray(np.arange(int(self.lengths.sum())) - before.repeat(self.lengths))

    def pack(self, padded: Array) -> Array:
        """Drop the padding."""
        if padded.shape[:2] != self.mask.shape:
            raise ValueError(f"expected a padded batch of shape {self.mask.shape} + (…), got {padded.shape}")
        rows: Array = padded[self.mask]  # [b,t,...] → [n,...]
        return rows

    def unpack(self, rows: Array) -> Array:
        """Put the padding back, as zeros."""
        padded = np.zeros(self.mask.shape + rows.shape[1:], dtype=rows.dtype)
        padded[self.mask] = rows  # [n,...] → [b,t,...]
        return padded

    def first_rows(self) -> Array:
        """int [b], each sequence's first row. Raises ValueError where a sequence has none."""
        if (empty := np.flatnonzero(self.lengths == 0)).size:
            raise ValueError(f"sequence {empty[0]} of the batch has no token: its attention mask is all zeros")
        return self.starts  # [b]

    def last_rows(self) -> Array:
        """int [b], each sequence's last row. Raises ValueError where a sequence has none."""
        return np.asarray(self.first_rows() + self.lengths - 1)

    def blocks(self, other: Packing) -> Iterator[tuple[Block, Block]]:
        """Runs of rows that attention takes as one array: pairs of (rows, (sequences, length)), queries' and keys'.

        Where all lengths agree the whole batch is one block; elsewhere each sequence is.
        """
        if len(self.lengths) != len(other.lengths):
            raise ValueError(f"{len(self.lengths)} sequences of queries meet {len(other.lengths)} sequences of keys")
        batch = len(self.lengths)
        if batch and self.is_one_block() and other.is_one_block():
            whole = (slice(0, self.rows), (batch, int(self.lengths[0])))
            yield whole, (slice(0, other.rows), (batch, int(other.lengths[0])))
            return
        for a, t, c, s in zip(self.starts, self.lengths, other.starts, other.lengths, strict=True):
            yield (slice(a, a + t), (1, int(t))), (slice(c, c + s), (1, int(s)))

    def is_one_block(self) -> bool:
        """Whether all sequences are equally long, and no row is anybody else's."""
        return bool((self.lengths == self.lengths[0]).all()) and self.rows == len(self.lengths) * self.lengths[0]
