"""How attention in a packed batch is cut into pieces that fit the cache. A plan is data: it meets no array of numbers.

Any cut gives the same values; the numbers here decide what they cost.
"""

from __future__ import annotations

import functools
import sys
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
    packing: Packing,
    key_packing: Packing,
    rule: Rule,
    heads: Heads,
    scores_at_once: int = SCORES,
    places: Array | None = None,
) -> Iterator[Piece]:
    """Yield the pieces of the attention of `packing`'s rows to those of `key_packing`.

    places : int [n], each query's among the keys of its sequence. Unless given the queries are the last of the keys: of
        t queries and s keys, query number 0 has the place s − t.

    Raises
    ------
    ValueError: the two are of different numbers of sequences.
    """
    if len(packing.lengths) != len(key_packing.lengths):
        raise ValueError(
            f"{len(packing.lengths)} sequences of queries meet {len(key_packing.lengths)} sequences of keys"
        )
    for run in _runs(packing, key_packing, heads, scores_at_once):
        queries, keys = _layout(packing, run), _layout(key_packing, run)
        t, s = queries.length, keys.length
        if places is not None:
            seen = _seen_from(rule, queries.spread(places), key_packing.lengths[run])
        else:
            seen = _seen_by_all(rule, packing.lengths[run], key_packing.lengths[run])
        width, at_once = _at_once(heads, queries.batch, t, s, seen, scores_at_once)
        blocks = tuple(_block(slice(start, min(start + at_once, t)), seen) for start in range(0, t, at_once))
        recomputed = _is_recomputed(heads, t, s, seen.most, scores_at_once)
        for group in range(0, heads.groups, width):
            groups = slice(group, min(group + width, heads.groups))
            yield Piece(run, groups, queries, keys, blocks, recomputed)


@functools.lru_cache(maxsize=16)
def shared_plan(
    packing: Packing, key_packing: Packing, rule: Rule, heads: Heads, scores_at_once: int = SCORES
) -> tuple[Piece, ...]:
    """Return the plan, without places, the same one to all layers of a model: they ask for it in turn."""
    return tuple(plan(packing, key_packing, rule, heads, scores_at_once))


def _layout(packing: Packing, run: slice) -> Layout:
    starts, lengths = packing.starts[run].tolist(), packing.lengths[run].tolist()
    batch, longest, first = len(starts), max(lengths), starts[0]
    if min(lengths) == longest:
        apart = starts[1] - first if batch > 1 else longest
        return Layout(slice(first, first + batch * apart), batch, longest)
    real = np.arange(longest) < packing.lengths[run, None]
    return Layout(slice(first, starts[-1] + lengths[-1]), batch, longest, real)


class _Seen(NamedTuple):
    """A _Seen says what the queries of some sequences see of their keys.

    keys : those that one or another sees; most : how many one query sees
    first, stop : int [b|1,t|1], for each query; an axis is 1 where all along it see the same, and both are None where
        all see all of `keys`
    """

    keys: slice
    most: int
    first: Array | None = None
    stop: Array | None = None


def _seen_by_all(rule: Rule, t: Array, s: Array) -> _Seen:
    """Find what queries see by a rule, where the sequences have t queries and s keys, each int [b]."""
    if (t == t[0]).all() and (s == s[0]).all():
        t, s = t[:1], s[:1]
    return _seen_from(rule, (s - t)[:, None] + np.arange(t.max()), s)


def _seen_from(rule: Rule, places: Array, s: Array) -> _Seen:
    """Find the same for queries at these places, int [b,t], of sequences with s keys, int [b]."""
    first, stop = rule(places)
    first = np.minimum(np.maximum(first, 0), s[:, None])
    stop = np.maximum(np.minimum(stop, s[:, None]), first)
    keys, seen = _between(first, stop), stop - first
    most = int(seen.max(initial=0))
    alike = most == keys.stop - keys.start == seen.min(initial=most)
    return _Seen(keys, most) if alike else _Seen(keys, most, first, stop)


def _between(first: Array, stop: Array) -> slice:
    return slice(int(first.min(initial=sys.maxsize)), int(stop.max(initial=0)))


def _block(queries: slice, seen: _Seen) -> Block:
    if seen.first is None or seen.stop is None:
        return Block(queries, seen.keys)
    first, stop = (x if x.shape[1] == 1 else x[:, queries] for x in (seen.first, seen.stop))
    keys = _between(first, stop)
    if first.max() == keys.start and stop.min() == keys.stop:
        return Block(queries, keys)
    return Block(queries, keys, first, stop)


# How much at once.


def _runs(packing: Packing, key_packing: Packing, sizes: Heads, scores_at_once: int) -> Iterator[slice]:
    """Yield sequences in succession that go together: they have a piece's scores in all, and no more padding than would
    cost as much as a piece for each sequence."""
    start, longest, widest, real, heads = 0, 0, 0, 0, sizes.groups * sizes.per_group
    may_join = (_may_join(packing) & _may_join(key_packing)).tolist()
    for end, (t, s) in enumerate(zip(packing.lengths.tolist(), key_packing.lengths.tolist(), strict=True)):
        longest, widest, real = max(longest, t), max(widest, s), real + t * s
        count = end + 1 - start
        scores, padding = count * longest * widest * heads, (count * longest * widest - real) * heads
        if count > 1 and (scores > scores_at_once or 4 * padding > count * scores_at_once or not may_join[end]):
            yield slice(start, end)
            start, longest, widest, real = end, t, s, t * s
    if len(packing.lengths):
        yield slice(start, len(packing.lengths))


def _at_once(heads: Heads, batch: int, t: int, s: int, seen: _Seen, scores_at_once: int) -> tuple[int, int]:
    """Return how many key heads and how many queries are attended together."""
    width = _groups_at_once(heads, batch, t, min(s, seen.most + _LEAST_QUERIES), scores_at_once)
    return width, _queries_at_once(batch * width * heads.per_group, t, s, seen, scores_at_once)


def _may_join(packing: Packing) -> Array:
    """Return bool [b], whether a sequence can be spread beside the one before: where no row is nobody's, or else where
    they are equally long and as far apart as the first two."""
    join = np.ones(len(packing.lengths), dtype=bool)
    if len(join) > 1 and not packing.is_full:
        apart = np.diff(packing.starts)
        within = packing.starts[1:] + apart[0] <= packing.rows
        join[1:] = (np.diff(packing.lengths) == 0) & (apart == apart[0]) & within
    return join


def _groups_at_once(heads: Heads, batch: int, t: int, s: int, scores_at_once: int) -> int:
    """Return how many key heads a piece has, about as many in each. Fewer queries at once are better than fewer heads:
    the first of causal queries see few keys."""
    scores = batch * heads.per_group * s * min(t, _LEAST_QUERIES)  # of one key head, for the least of queries
    pieces = -(-heads.groups // max(scores_at_once // max(scores, 1), 1))
    return -(-heads.groups // pieces)


def _queries_at_once(heads: int, t: int, s: int, seen: _Seen, scores_at_once: int) -> int:
    """Return how many queries a block has, about as many in each. Where not all see the same keys, fewer queries see
    fewer keys: four blocks of causal queries see five eighths."""
    alike = seen.first is None or seen.stop is None or seen.first.shape[1] == seen.stop.shape[1] == 1
    few = t if alike else max(_LEAST_QUERIES, seen.most // 4)
    blocks = -(-t // max(scores_at_once // max(heads * min(s, seen.most + few), 1), 1))
    return -(-t // max(blocks, t // max(few, 1), 1)) or 1


def _is_recomputed(heads: Heads, t: int, s: int, most: int, scores_at_once: int) -> bool:
    """Say whether backward computes the scores again: where they are as many as q, k, v and y have numbers, or as a
    piece may have."""
    of_q_and_y, of_k_and_v = 2 * heads.per_group * t * heads.width, 2 * s * heads.width
    return heads.per_group * t * most >= min(of_q_and_y + of_k_and_v, scores_at_once)
