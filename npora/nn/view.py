"""Which rows of a batch ask, of those that there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npora.nn.cache import LayerCache
from npora.nn.module import Array, Pullback
from npora.nn.packed_attention import AttentionPullback, packed_attention
from npora.nn.packing import Packing
from npora.nn.readable import Readable
from npora.nn.rules import Rule, everything


@dataclass(frozen=True, eq=False)
class View(Readable):
    """What a layer is asked for: its output at all rows of a batch, or at those alone that somebody reads.

    All rows are keys. The last layer of a model computes the rest at the rows that are read, which for a classifier are
    one of each sequence, and for a language model those that have a label.

    Parameters
    ----------
    packing : which of the n rows form which sequence; none of them is nobody's
    read : int [k], ascending, the rows that are read; all unless given, and None where they are all

    Attributes
    ----------
    queries : which of the k rows form which sequence

    Raises
    ------
    ValueError: rows that do not ascend: their outputs would not stand by sequences.
    """

    packing: Packing
    read: Array | None = None
    queries: Packing = field(init=False, repr=False)

    def __post_init__(self) -> None:
        read = self.read
        if read is not None and (np.diff(read) <= 0).any():
            raise ValueError("the rows that are read must ascend, each of them once: sort them with np.unique")
        if read is None or len(read) == self.packing.rows:
            read, queries = None, self.packing
        else:
            ends = np.searchsorted(read, self.packing.starts + self.packing.lengths)  # [b]
            queries = Packing.of_lengths(np.diff(ends, prepend=0))
        object.__setattr__(self, "read", read)
        object.__setattr__(self, "queries", queries)

    def pick(self, x: Array) -> tuple[Array, Pullback]:
        """The rows that are read, and the way back.    x [n,m]  →  [k,m]"""
        return pick_rows(x, self.read)

    def at(self, x: Array) -> Array:
        """The same of an array that has no gradient.    x [n,…]  →  [k,…]"""
        return x if self.read is None else x[self.read]

    def places(self, key_packing: Packing) -> Array | None:
        """int [k], the place of each row that is read among the keys of its sequence, of which the batch's own rows are
        the last; None where all rows are read."""
        if self.read is None:
            return None
        before = key_packing.lengths - self.packing.lengths - self.packing.starts  # [b]
        return np.asarray(self.read + before[self.queries.sequences])


def pick_rows(x: Array, rows: Array | None) -> tuple[Array, Pullback]:
    """x[rows] for rows that are all different, or x itself.    x [n,m]  rows int [k]  →  [k,m]"""
    if rows is None:
        return x, lambda dx: dx
    shape = x.shape

    def backward(dy: Array) -> Array:
        dx = np.zeros(shape, dtype=dy.dtype)
        dx[rows] = dy  # [k,m] → [n,m]
        return dx

    return x[rows], backward


def self_attention(
    q: Array, k: Array, v: Array, heads: int, view: View, rule: Rule = everything, past: LayerCache | None = None,
    **options: Any,
) -> tuple[Array, AttentionPullback]:  # fmt: skip
    """`packed_attention` of the rows that a view reads to all rows of their sequences.

    q [k,h·d]  k, v [n,g·d]  →  y [k,h·d]. With `past`, keys and values are put behind those that it holds, and all of
    them are seen. options : packed_attention's bias, scale, dropout_p and rng.
    """
    key_packing = view.packing
    if past is not None:
        k, v, key_packing = past.append(k, v, view.packing)
    places = view.places(key_packing)
    return packed_attention(q, k, v, heads, view.queries, key_packing, rule, places=places, **options)
