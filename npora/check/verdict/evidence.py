"""A gradient that came beside the right one, wherever that is known: what the causes of an error are tried on."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from npora.nn.module import Array


class Evidence:
    """a, which came, and n, the right gradient, of one shape; n is nan where it is not known.

    `places` are the indices of the k elements where it is, in the array, axis by axis; `came`, `right` and `error` [k]
    what is there. A claim fits where it leaves no more than `close`: what is not known of n, and an eighth of the
    difference at the most, since any claim would explain one that is as small as that.
    """

    def __init__(self, a: Array, n: Array, tolerance: float) -> None:
        self.a, self.shape = a, a.shape
        tolerance = tolerance if tolerance < 1 else 1.0  # nothing is known where it is infinite or nan
        flat = np.flatnonzero(~np.isnan(n))
        self.places: tuple[Array, ...] = np.unravel_index(flat, a.shape) if a.ndim else ()
        self.came, self.right = self.at(a), n.reshape(-1)[flat]
        self.whole = len(flat) == a.size
        self.error = self.came - self.right
        self.size = float(max(np.abs(self.right).max(initial=0.0), np.abs(self.came).max(initial=0.0)))
        self.difference = float(np.abs(self.error).max(initial=0.0))
        self.digits = min(max(1 - round(math.log10(tolerance)), 3), 10)  # of a factor, that are known
        self.close = min(tolerance * self.size, self.difference / 8)

    def at(self, x: Array) -> Array:
        """x, of the gradient's shape, at the places [k]."""
        there: Array = x[self.places] if x.ndim else x.reshape(1)
        return there

    def spread(self, x: Array) -> Array | None:
        """An array that broadcasts to the gradient's shape, at the places; None of one that does not."""
        try:
            return self.at(np.broadcast_to(x, self.shape))
        except ValueError:
            return None

    def moved(self, axis: int, to: Array) -> Array:
        """What came at other indices along an axis."""
        places = [to if k == axis else place for k, place in enumerate(self.places)]
        there: Array = self.a[tuple(places)]
        return there

    def fits(self, rest: Array, scale: float = 1.0) -> bool:
        """scale : by how much what is not known is multiplied in it"""
        left = np.abs(rest).max(initial=0.0)
        return bool(left <= min(self.close * max(1.0, abs(scale)), self.difference / 8))

    @cached_property
    def wrong(self) -> Array:
        wrong: Array = np.abs(self.error) > self.close
        return wrong

    @cached_property
    def clear(self) -> bool:
        """Are the wrong elements told from the right ones: is no error between, where little is known of n?"""
        error = np.abs(self.error)
        return self.close < self.difference / 8 or not ((error > self.close / 8) & (error <= self.close)).any()

    def slices(self, axis: int) -> tuple[Array, int]:
        """For each place the number of its slice along an axis, and how many slices there are."""
        others = [k for k in range(len(self.shape)) if k != axis]
        if not others:
            return np.zeros(len(self.came), int), 1
        number = np.ravel_multi_index([self.places[k] for k in others], [self.shape[k] for k in others])
        found, inverse = np.unique(number, return_inverse=True)
        return inverse.reshape(-1), len(found)

    def by_slice(self, x: Array, axis: int) -> Array:
        """The sum of x over each slice along an axis, at every place of it."""
        number, count = self.slices(axis)
        summed: Array = np.bincount(number, x, count)[number]
        return summed

    def index(self, k: int) -> str:
        return f"[{', '.join(str(int(axis[k])) for axis in self.places)}]"

    @property
    def among(self) -> str:
        """'24 elements', or '2000 elements that were looked at'"""
        return f"{len(self.came)} elements" + ("" if self.whole else " that were looked at")


def factor(x: Array, y: Array) -> float:
    """The c that brings c y nearest to x, without squares that overflow."""
    size = float(np.abs(y).max(initial=0.0))
    return float(np.sum(x / size * (y / size)) / np.sum((y / size) ** 2)) if size else 0.0
