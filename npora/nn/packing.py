"""A batch is rows, not padding: which of them form which sequence, and a padded batch's way to them and back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from npora.nn.grad_mode import this_thread
from npora.nn.module import Array, Pullback
from npora.nn.readable import Readable, brief


@dataclass(frozen=True, eq=False)
class Packing(Readable):
    """A Packing says where the sequences of a batch lie: each is a run of rows, and they follow one another.

    Row-wise layers (linear, norm, activation) take rows `[n,m]` and never see sequences; attention asks where they lie.

    Parameters
    ----------
    starts : int [b], the first row of each sequence
    lengths : int [b], how many rows each has
    rows : n, of all of them; rows between the sequences are nobody's, and attention neither reads nor fills them

    Attributes
    ----------
    is_full : whether no row is nobody's

    Raises
    ------
    ValueError: sequences that overlap, or reach beyond the rows.
    """

    starts: Array
    lengths: Array
    rows: int
    is_full: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        starts, lengths = np.asarray(self.starts), np.asarray(self.lengths)
        if starts.ndim != 1 or starts.shape != lengths.shape:
            raise ValueError(f"expected a start and a length of each sequence; got {starts.shape} and {lengths.shape}")
        ends = starts + lengths
        if (lengths < 0).any() or (np.append(starts, self.rows) < np.append(0, ends)).any():
            raise ValueError(
                f"sequences that begin at rows {brief(starts)} and have {brief(lengths)} rows do not lie one "
                f"behind the other within {self.rows} rows"
            )
        is_full = int(lengths.sum()) == self.rows
        for name, value in (("starts", starts), ("lengths", lengths), ("is_full", is_full)):
            object.__setattr__(self, name, value)
        if this_thread.packing_made is not None:
            this_thread.packing_made(self)

    @classmethod
    def of_lengths(cls, lengths: npt.ArrayLike) -> Packing:
        """Pack sequences of the given lengths, one right behind the other."""
        lengths = np.asarray(lengths, dtype=np.int64)
        ends = lengths.cumsum()
        return cls(ends - lengths, lengths, int(lengths.sum()))

    @classmethod
    def dense(cls, batch: int, length: int) -> Packing:
        """Pack `batch` sequences of the same `length`, one right behind the other."""
        return cls.spaced(np.full(batch, length), length)

    @classmethod
    def spaced(cls, lengths: npt.ArrayLike, every: int) -> Packing:
        """Pack sequences whose first rows stand `every` rows apart, with rows of nobody behind the shorter ones."""
        lengths = np.asarray(lengths)
        return cls(np.arange(len(lengths)) * every, lengths, len(lengths) * every)

    @property
    def sequences(self) -> Array:
        """The number of the sequence that each row belongs to, int [n]; rows of nobody do not count."""
        return np.arange(len(self.lengths)).repeat(self.lengths)

    @property
    def places(self) -> Array:
        """The number of each row in its sequence, from 0, int [n]; rows of nobody do not count."""
        before = self.lengths.cumsum() - self.lengths
        return np.arange(self.lengths.sum()) - before.repeat(self.lengths)

    def rows_of(self, sequences: npt.ArrayLike) -> Array:
        """Return the rows of these sequences, in this order; one may stand several times."""
        sequences = np.asarray(sequences)
        chosen = Packing.of_lengths(self.lengths[sequences])
        return self.starts[sequences].repeat(chosen.lengths) + chosen.places

    def first_rows(self) -> Array:
        """Return each sequence's first row, int [b]. Raises ValueError where a sequence has none."""
        if (empty := np.flatnonzero(self.lengths == 0)).size:
            raise ValueError(f"sequence {empty[0]} of the batch has no token: its attention mask is all zeros")
        return self.starts  # [b]

    def last_rows(self) -> Array:
        """Return each sequence's last row, int [b]. Raises ValueError where a sequence has none."""
        return self.first_rows() + self.lengths - 1


class Padding(Readable):
    """A Padding says which cells of a padded batch [b,t] are tokens: these, row by row, are a model's n rows.

    Parameters
    ----------
    mask : bool [b,t], True where a token is real

    Attributes
    ----------
    packing : which of the rows form which sequence
    positions : int [n], the column of each row in the padded batch: Hugging Face's position ids, which count padding
    """

    def __init__(self, mask: npt.ArrayLike) -> None:
        self.mask = np.asarray(mask, dtype=bool)  # [b,t]
        if self.mask.ndim != 2:
            raise ValueError(f"a padding's mask is [batch, length], not of shape {self.mask.shape}")
        self.packing = Packing.of_lengths(self.mask.sum(axis=1))
        self.positions = np.nonzero(self.mask)[1]  # [n]

    def pack(self, padded: Array) -> Array:
        """Drop the padding."""
        if padded.shape[:2] != self.mask.shape:
            raise ValueError(f"expected a padded batch of shape {self.mask.shape} + (…), got {padded.shape}")
        return padded[self.mask]  # [b,t,...] → [n,...]

    def unpack(self, rows: Array) -> Array:
        """Put the padding back, as zeros."""
        if len(rows) != self.packing.rows:
            raise ValueError(f"expected the {self.packing.rows} rows of this batch, got an array of shape {rows.shape}")
        padded = np.zeros(self.mask.shape + rows.shape[1:], dtype=rows.dtype)
        padded[self.mask] = rows  # [n,...] → [b,t,...]
        return padded

    def refuse_gaps(self, reason: str) -> None:
        """Raise ValueError, with this reason, where padding stands between the tokens of a sequence: distances between
        columns are then not those between rows."""
        shift = self.positions - self.packing.places  # [n]; where there is no gap, the first token's column
        sequences = self.packing.sequences
        gaps = np.flatnonzero((shift[1:] != shift[:-1]) & (sequences[1:] == sequences[:-1]))
        if gaps.size:
            raise ValueError(
                f"the attention mask of sequence {sequences[gaps[0]]} hides tokens between others: {reason}, so a "
                "sequence must be in one piece"
            )


def mean_of_sequences(x: Array, packing: Packing) -> tuple[Array, Pullback]:
    """y_b = Σ x_n / s over the s rows of sequence b.    x [n,m]  →  y [b,m]

        dx_n = dy_b / s        (1)

    Raises
    ------
    ValueError: a sequence without rows, or rows that are nobody's.
    """
    starts, lengths = packing.first_rows(), packing.lengths[:, None]  # [b], [b,1]
    if not packing.is_full:
        raise ValueError("the mean of a sequence's rows takes a packing without rows of nobody")

    def backward(dy: Array) -> Array:
        share = dy / lengths.astype(dy.real.dtype)  # (1)
        return np.repeat(share, packing.lengths, axis=0)  # [b,m] → [n,m]

    return np.add.reduceat(x, starts, axis=0) / lengths.astype(x.real.dtype), backward  # [n,m] → [b,m]
