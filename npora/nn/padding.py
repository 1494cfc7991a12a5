"""A padded batch's way to rows and back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from npora.nn.module import Array
from npora.nn.packing import Packing
from npora.nn.readable import Readable


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
