"""torch's random numbers, for files that hold a seed in the place of the numbers drawn from it."""

from __future__ import annotations

import numpy as np

from npora.nn.module import Array


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

        Raises ValueError for an n from 2³²/20 on, which torch draws by 64 bits.
        """
        if n >= (2**32 - 1) // 20:
            raise ValueError(f"a random order of {n:,} numbers is not drawn here as torch draws it: choose fewer")
        words = self._words.randint(0, 2**32, k, np.uint32).tolist()
        moved: dict[int, int] = {}  # what stands at a place that is not its own number
        order = []
        for j, word in enumerate(words):
            at = j + word % (n - j)
            order.append(moved.get(at, at))
            moved[at] = moved.get(j, j)
        return np.array(order, np.int64)
