"""Which rows form which sequence: inside a model a batch is rows, not padding."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from npora.nn.grad_mode import this_thread
from npora.nn.module import Array
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
        end = used = 0
        for start, length in zip([*starts.tolist(), self.rows], [*lengths.tolist(), 0], strict=True):
            if start < end or length < 0:
                raise ValueError(
                    f"sequences that begin at rows {brief(starts)} and have {brief(lengths)} rows do not lie one "
                    f"behind the other within {self.rows} rows"
                )
            end, used = start + length, used + length
        for name, value in (("starts", starts), ("lengths", lengths), ("is_full", used == self.rows)):
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
