"""Positions as a bias of the scores: T5's buckets of distances."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from npora.nn import Cache, Module, Packing, Padding
from npora.nn.module import Array
from npora.nn.residual import Shared
from npora.nn.view import View


def relative_buckets(distance: Array, bidirectional: bool, buckets: int = 32, max_distance: int = 128) -> Array:
    """int, the bucket of a key's position less its query's (Raffel et al., 2020).

    Half of a direction's n buckets hold one distance each. The others grow with it, up to max_distance = m:

        bucket(r) = r                                              for r < n/2
        bucket(r) = n/2 + ⌊n/2 · ln(r/(n/2)) / ln(m/(n/2))⌋        above, at most n − 1

    bidirectional : r = |distance|; keys behind the query have the upper half of the buckets, so n = buckets/2. Else
    r = −distance, and keys behind the query, which a decoder's mask hides, count as r = 0.
    """
    n = buckets // 2 if bidirectional else buckets
    r = np.abs(distance) if bidirectional else np.maximum(-distance, 0)
    exact = n // 2
    share = np.log(np.maximum(r, 1).astype(np.float32) / exact) / math.log(max_distance / exact)
    far = np.minimum(exact + (share * (n - exact)).astype(np.int64), n - 1)
    bucket = np.where(r < exact, r, far)
    return bucket + n * (distance > 0) if bidirectional else bucket


def shared_biases(
    table: Module, bucket: Callable[[Array], Array], packing: Packing, read: Array | None, layers: int,
    cache: Cache | None = None,
) -> tuple[Callable[[int], Shared], Callable[[], None]]:  # fmt: skip
    """The `relative_bias` of each of so many layers, by its number: all layers share one, but the last, of which the
    rows `read` are asked. Backward, called behind theirs, takes to the table what they have given back."""
    every, asked = View(packing), View(packing, read)
    views = [every] if asked.read is None else [every, asked]
    found = [relative_bias(table, bucket, view, cache) for view in views]
    biases = [Shared(bias) for bias, _ in found]

    def backward() -> None:
        for bias, (_, back_bias) in zip(biases, found, strict=True):
            back_bias(bias.gradient())

    return lambda index: biases[-1 if index == layers - 1 else 0], backward


def relative_bias(
    table: Module, bucket: Callable[[Array], Array], view: View, cache: Cache | None = None
) -> tuple[Array, Callable[[Array], None]]:
    """bias[h,t,s] = E[bucket(s − t), h] of the rows t that a view reads.    E [buckets,h]  →  bias [1|b,h,t,s]

        dE[k,h] = Σ dbias[h,t,s] over the t, s with bucket(s − t) = k      (1)   the embedding's pullback

    Where all rows are read, one bias serves all sequences: it is the longest's. With a cache the queries stand behind
    the keys that it holds, at places of their own in each sequence.
    """
    packing, queries = view.packing, view.queries
    past = np.zeros(1, dtype=np.int64) if cache is None or not len(cache[0].lengths) else cache[0].lengths  # [1|b]
    places = np.arange(packing.lengths.max(initial=0))  # [t]
    if view.read is not None:
        real = np.arange(queries.lengths.max(initial=0)) < queries.lengths[:, None]
        places = Padding(real).unpack(view.at(packing.places))  # [n] → [b,t]
    places = past[:, None] + places  # [1|b,t]
    keys = np.arange((past + packing.lengths).max(initial=0))  # [s]
    values, back_table = table(bucket(keys - places[:, :, None]))  # [1|b,t,s] → [1|b,t,s,h]

    def backward(dbias: Array) -> None:
        back_table(np.moveaxis(dbias, 1, -1))  # (1) [1|b,h,t,s] → [1|b,t,s,h]

    return np.ascontiguousarray(np.moveaxis(values, -1, 1)), backward  # [1|b,t,s,h] → [1|b,h,t,s]


def log_buckets(distance: Array, buckets: int, max_distance: int) -> Array:
    """int, the bucket of a distance (He et al., 2021): of n = buckets, as many for either direction, with its sign.

        bucket(r) = r                                                               for |r| ≤ n/2
        bucket(r) = ±(n/2 + ⌈(n/2 − 1) · ln(|r|/(n/2)) / ln((max_distance − 1)/(n/2))⌉)    above

    It does not fall as r grows, and bucket(−r) = −bucket(r). A distance from max_distance on has n or more.
    """
    exact = buckets // 2
    r = np.maximum(np.abs(distance), exact)
    share = np.log((r / exact).astype(np.float32)) / np.log(np.float32((max_distance - 1) / exact))
    far = np.ceil(share * np.float32(exact - 1)).astype(np.int64) + exact
    return np.where(r <= exact, distance, np.sign(distance) * far)
