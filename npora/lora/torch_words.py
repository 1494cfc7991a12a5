"""torch's random numbers, for files that hold a seed in the place of the numbers drawn from it."""

from __future__ import annotations

import numpy as np

from npora.nn.module import Array

_AT_ONCE = 1 << 20


class TorchWords:
    """Draws what `torch.Generator().manual_seed(seed)` draws on the CPU, bit for bit.

    Both torch and NumPy's RandomState are the Mersenne twister with its authors' seeding, which NumPy promises to keep.
    """

    def __init__(self, seed: int) -> None:
        self._words = np.random.RandomState(seed & 0xFFFFFFFF)  # torch takes 32 bits of the seed too

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> Array:
        """Return `torch.empty(shape).uniform_(low, high)`, float32: 24 bits of each word, times 2⁻²⁴ (high − low)."""
        words = self._words.randint(0, 2**32, shape, np.uint32)
        a, b = np.float32(low), np.float32(high)
        return ((words & 0xFFFFFF) * 2.0**-24 * float(b - a) + float(a)).astype(np.float32)

    def permutation(self, n: int, k: int) -> Array:
        """Return the first k numbers of `torch.randperm(n)`: the j-th is exchanged for one of those from there on.

        From 2³²/20 numbers on torch draws 64 bits for each, and builds the order from its end: number j takes the place
        z ≤ j, and what stood there goes to the end. So what comes first is known after all n draws, a few seconds.
        """
        if n >= (2**32 - 1) // 20:
            return self._inside_out(n, k)
        words = self._words.randint(0, 2**32, k, np.uint32).tolist()
        moved: dict[int, int] = {}  # what stands at a place that is not its own number
        order = []
        for j, word in enumerate(words):
            at = j + word % (n - j)
            order.append(moved.get(at, at))
            moved[at] = moved.get(j, j)
        return np.array(order, np.int64)

    def _inside_out(self, n: int, k: int) -> Array:
        order = np.zeros(k, np.int64)
        for start in range(0, n, _AT_ONCE):
            j = np.arange(start, min(start + _AT_ONCE, n))
            high, low = self._words.randint(0, 2**32, (len(j), 2), np.uint32).astype(np.uint64).T
            z = ((high << np.uint64(32) | low) % (j + 1).astype(np.uint64)).astype(np.int64)
            for number, place in zip(j[: max(k - start, 0)], z, strict=False):  # as long as the first k are not there
                order[number], order[place] = order[place], number
            later = (z < k) & (j >= k)
            order[z[later]] = j[later]  # of several at one place the last stays
        return order
