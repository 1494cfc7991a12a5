"""What a decoder remembers from one token to the next: its keys and values."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from npora.nn.module import Array
from npora.nn.packing import Packing
from npora.nn.readable import Readable, brief


class LayerCache(Readable):
    """A LayerCache holds the keys and values that one attention layer has computed for b sequences of any lengths."""

    def __init__(self) -> None:
        self.lengths: Array = np.zeros(0, dtype=np.int64)  # [b]
        self._k: Array | None = None  # [b,capacity,g·d]
        self._v: Array | None = None

    def append(self, k: Array, v: Array, packing: Packing) -> tuple[Array, Array, Packing]:
        """Put rows k, v [n,g·d] behind those of their sequences. Returns all keys and values as rows, with the packing
        that says which are whose."""
        if self._k is None or self._v is None:
            self.lengths = np.zeros(len(packing.lengths), dtype=np.int64)
        places = (self.lengths.tolist(), packing.starts.tolist(), packing.lengths.tolist())
        self.lengths = self.lengths + packing.lengths
        self._k = _grown(self._k, self.lengths, k)
        self._v = _grown(self._v, self.lengths, v)
        for b, (end, row, new) in enumerate(zip(*places, strict=True)):
            self._k[b, end : end + new], self._v[b, end : end + new] = k[row : row + new], v[row : row + new]
        return self.rows()

    def rows(self) -> tuple[Array, Array, Packing]:
        """Return all keys and values so far: k [s,g·d], v [s,g·o], and their packing."""
        if self._k is None or self._v is None:
            raise RuntimeError("this cache is empty: append() to it first")
        batch, capacity, _ = self._k.shape
        lengths = tuple(self.lengths.tolist())
        if batch == 1:
            (n,) = lengths
            return self._k[0, :n], self._v[0, :n], _spaced(lengths, n)
        spaced = _spaced(lengths, capacity)
        k, v = (x.reshape(batch * capacity, x.shape[2]) for x in (self._k, self._v))  # [b,capacity,g·d] → [s,g·d]
        return k, v, spaced

    def select(self, sequences: Array) -> None:
        """Go on with these sequences, in this order; one may stand several times (beam search)."""
        self.lengths = self.lengths[sequences]
        if self._k is not None and self._v is not None:
            self._k, self._v = self._k[sequences], self._v[sequences]


class Cache(Readable):
    """A Cache holds a LayerCache for each attention layer, `cache[0]`, `cache[1]`, …, made when it is asked for."""

    def __init__(self) -> None:
        self._layers: dict[object, LayerCache] = {}

    def __getitem__(self, layer: object) -> LayerCache:
        return self._layers.setdefault(layer, LayerCache())

    def positions(self, packing: Packing) -> Array:
        """Return the position of each new row, int [n]: how many rows are before it. Ask before the layers run."""
        lengths = self[0].lengths
        return packing.places if len(lengths) == 0 else lengths[packing.sequences] + packing.places

    def select(self, sequences: Array) -> None:
        for layer in self._layers.values():
            layer.select(sequences)

    def said(self) -> Iterator[str]:
        yield f"{len(self._layers)} layers"
        yield from (f"lengths={brief(layer.lengths)}" for layer in list(self._layers.values())[:1])


@functools.lru_cache(maxsize=4)
def _spaced(lengths: tuple[int, ...], every: int) -> Packing:
    """Return Packing.spaced, the same one to all layers of a model: they ask for it in turn."""
    return Packing.spaced(lengths, every)


def _grown(buffer: Array | None, lengths: Array, like: Array) -> Array:
    """Return the buffer, twice as long or more where it has become too short, so that n appends copy O(n) rows."""
    needed, old = int(lengths.max(initial=0)), 0 if buffer is None else buffer.shape[1]
    if buffer is not None and needed <= old:
        return buffer
    grown = np.zeros((len(lengths), max(needed, 2 * old), like.shape[1]), dtype=like.dtype)
    if buffer is not None:
        grown[:, :old] = buffer
    return grown
