"""How attention in a packed batch is cut into pieces that fit the cache. A plan is data: it meets no array of numbers.

Any cut gives the same values; the numbers here decide what they cost.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from npora.nn.module import Array
from npora.nn.packing import Packing
from npora.nn.rules import Rule

SCORES = 1 << 18  # of a piece: a megabyte in float32
_LEAST_QUERIES = 32  # of a block, as long as one head's scores are not too many


class Layout(NamedTuple):
    """A Layout makes the rows of some sequences in succession an array [b,t]: a view where all are equally long, else a
    copy that is padded behind the shorter ones."""

    rows: slice
    batch: int
    length: int  # of the longest
    real: Array | None = None  # bool [b,t], False at the padding; None where there is none

    def spread(self, x: Array) -> Array:
        """Spread x [n,…] as [b,t,…], with zeros as the padding."""
        part = x[self.rows]
        if self.real is None:
            return part.reshape(self.batch, len(part) // self.batch, *x.shape[1:])[:, : self.length]
        padded = np.zeros((self.batch, self.length, *x.shape[1:]), x.dtype)
        padded[self.real] = part
        return padded

    def collect(self, spread: Array, x: Array) -> None:
        """Bring to the rows of x what was written to `spread(x)`. To a view it is there already."""
        if self.real is not None:
            x[self.rows] = spread[self.real]


class Block(NamedTuple):
    """A block is some queries of each of a piece's sequences, and the keys that one or another of them sees.

    first, stop : int [b|1,t|1], what each query sees of them; None where each sees all
    """

    queries: slice
    keys: slice
    first: Array | None = None
    stop: Array | None = None

    def mask(self) -> Array | None:
        """Make the mask, bool [b|1,1,1,t|1,s], True where a query sees a key. It is not kept: masks would take memory
        that grows with the square of the length."""
        if self.first is None or self.stop is None:
            return None
        keys = np.arange(self.keys.start, self.keys.stop)
        visible: Array = keys < self.stop[..., None]  # [b|1,t|1,s]
        if (self.first > self.keys.start).any():
            visible &= keys >= self.first[..., None]
        return visible[:, None, None]


class Piece(NamedTuple):
    """A piece is some sequences and some key heads; one thread does its work, one block of queries after another."""

    sequences: slice
    groups: slice  # key heads
    queries: Layout
    keys: Layout
    blocks: tuple[Block, ...]
    recomputed: bool  # backward computes the scores again, instead of finding them kept


class Heads(NamedTuple):
    """There are g key heads, each of which serves h/g query heads; both are d wide."""

    groups: int
    per_group: int
    width: int


def plan(
    packing: Packing, key_packing: Packing, rule: Rule, heads: Heads, scores_at_once: int = SCORES,
    places: Array | None = None,
) -> tuple[Piece, ...]:  # fmt: skip
    """Return the pieces of the attention of `packing`'s rows to those of `key_packing`.

    places : int [n], each query's among the keys of its sequence; unless given the queries are the last of the keys

    Raises
    ------
    ValueError: the two are of different numbers of sequences.
    """
    if len(packing.lengths) != len(key_packing.lengths):
        raise ValueError(
            f"{len(packing.lengths)} sequences of queries meet {len(key_packing.lengths)} sequences of keys"
        )
    pieces = []
    for run in _runs(packing, key_packing, heads, scores_at_once):
        queries, keys = _layout(packing, run), _layout(key_packing, run)
        t, s = queries.length, keys.length
        asked = None if places is None else queries.spread(places)
        first, stop = _seen(rule, asked, packing.lengths[run], key_packing.lengths[run])
        width, at_once, recomputed = _at_once(heads, queries.batch, t, s, first, stop, scores_at_once)
        blocks = tuple(_block(slice(i, min(i + at_once, t)), first, stop) for i in range(0, t, at_once))
        for group in range(0, heads.groups, width):
            groups = slice(group, min(group + width, heads.groups))
            pieces.append(Piece(run, groups, queries, keys, blocks, recomputed))
    return tuple(pieces)


shared_plan = functools.lru_cache(maxsize=16)(plan)  # the same one to all layers of a model: they ask for it in turn


def _layout(packing: Packing, run: slice) -> Layout:
    starts, lengths = packing.starts[run].tolist(), packing.lengths[run].tolist()
    batch, longest, first = len(starts), max(lengths), starts[0]
    if min(lengths) == longest:
        apart = starts[1] - first if batch > 1 else longest
        return Layout(slice(first, first + batch * apart), batch, longest)
    real = np.arange(longest) < packing.lengths[run, None]
    return Layout(slice(first, starts[-1] + lengths[-1]), batch, longest, real)


def _seen(rule: Rule, places: Array | None, t: Array, s: Array) -> tuple[Array, Array]:
    """Return (first, stop), each int [b|1,t|1], of the keys that each query sees, where the sequences have t queries
    and s keys, each int [b]. An axis is 1 where all along it see the same."""
    if places is None:
        if (t == t[0]).all() and (s == s[0]).all():
            t, s = t[:1], s[:1]
        places = (s - t)[:, None] + np.arange(t.max())  # [b|1,t]
    first, stop = rule(places)
    first = np.minimum(np.maximum(first, 0), s[:, None])
    return first, np.maximum(np.minimum(stop, s[:, None]), first)


def _block(queries: slice, first: Array, stop: Array) -> Block:
    first, stop = (x if x.shape[1] == 1 else x[:, queries] for x in (first, stop))
    keys = slice(int(first.min()), int(stop.max()))
    if first.max() == keys.start and stop.min() == keys.stop:
        return Block(queries, keys)
    return Block(queries, keys, first, stop)


# How much at once.


def _runs(packing: Packing, key_packing: Packing, sizes: Heads, scores_at_once: int) -> Iterator[slice]:
    """Yield sequences in succession that go together: they have half of a piece's scores in all, so that threads share
    a batch of short ones, and no more padding than would cost as much as a piece for each sequence."""
    start, longest, widest, real, heads = 0, 0, 0, 0, sizes.groups * sizes.per_group
    may_join = (_may_join(packing) & _may_join(key_packing)).tolist()
    for end, (t, s) in enumerate(zip(packing.lengths.tolist(), key_packing.lengths.tolist(), strict=True)):
        longest, widest, real = max(longest, t), max(widest, s), real + t * s
        count = end + 1 - start
        scores, padding = count * longest * widest * heads, (count * longest * widest - real) * heads
        if count > 1 and (2 * scores > scores_at_once or 4 * padding > count * scores_at_once or not may_join[end]):
            yield slice(start, end)
            start, longest, widest, real = end, t, s, t * s
    if len(packing.lengths):
        yield slice(start, len(packing.lengths))


def _may_join(packing: Packing) -> Array:
    """Return bool [b], whether a sequence can be spread beside the one before: where no row is nobody's, or else where
    they are equally long and as far apart as the first two."""
    join = np.ones(len(packing.lengths), dtype=bool)
    if len(join) > 1 and not packing.is_full:
        apart = np.diff(packing.starts)
        within = packing.starts[1:] + apart[0] <= packing.rows
        join[1:] = (np.diff(packing.lengths) == 0) & (apart == apart[0]) & within
    return join


def _at_once(
    heads: Heads, batch: int, t: int, s: int, first: Array, stop: Array, scores_at_once: int
) -> tuple[int, int, bool]:
    """Return how many key heads a piece has and how many queries a block, about as many in each; and whether backward
    computes the scores again.

    Fewer queries at once are better than fewer heads, since the first of causal queries see few keys. Where not all see
    the same keys, fewer queries see fewer: four blocks of causal queries see five eighths. Scores are computed again
    where they are as many as q, k, v and y have numbers, or as a piece may have.
    """
    most = int((stop - first).max(initial=0))  # keys that one query sees
    of_a_head = batch * heads.per_group * min(s, most + _LEAST_QUERIES) * min(t, _LEAST_QUERIES)
    width = _shared_out(heads.groups, _shared_out(heads.groups, scores_at_once // max(of_a_head, 1)))
    few = t if first.shape[1] == stop.shape[1] == 1 else max(_LEAST_QUERIES, most // 4)
    of_a_query = batch * width * heads.per_group * min(s, most + few)
    blocks = _shared_out(t, scores_at_once // max(of_a_query, 1))
    at_once = _shared_out(t, max(blocks, t // max(few, 1))) or 1
    numbers = 2 * heads.per_group * t * heads.width + 2 * s * heads.width  # of q and y, and of k and v
    return width, at_once, heads.per_group * t * most >= min(numbers, scores_at_once)


def _shared_out(number: int, by: int) -> int:
    """Return number / by, rounded up; `by` counts as 1 at least."""
    return -(-number // max(by, 1))
