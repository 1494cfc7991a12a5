"""EVA: the start at the directions in which a layer's inputs vary most, and ranks where they explain most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from npora.lora.starts.pissa import randomised_svd
from npora.lora.starts.settings import Settings
from npora.nn.module import Array

_TURNS = 4  # of the randomised decompositions, as in PEFT
_ROUNDINGS = 100  # a singular value of no more of them is zero


@dataclass
class EvaConfig(Settings):
    """An EvaConfig says how EVA looks at the inputs and gives out the ranks (Paischer et al., 2024).

    rho : a layer gets at most rho · r ranks; 1 leaves each its r
    tau : how near a direction must be to what it was a batch before, by the cosine, to be taken as known
    use_label_mask, label_mask_value : whether rows are left out whose label is this value
    whiten : divide each direction by the root of its singular value
    adjust_scaling_factors : keep s where a rank changes, by an alpha that changes with it

    Raises
    ------
    ValueError: a value that makes no sense.
    """

    rho: float = 2.0
    tau: float = 0.99
    use_label_mask: bool = True
    label_mask_value: int = -100
    whiten: bool = False
    adjust_scaling_factors: bool = True

    def check(self) -> None:
        if self.rho < 1:
            raise ValueError(f"rho must be at least 1, for a layer gets at most rho · r ranks; got {self.rho}")
        if not 0 <= self.tau <= 1:
            raise ValueError(f"tau is a cosine, and must lie in [0, 1]; got {self.tau}")


class Components:
    """A = V: the first k principal directions of a layer's inputs, which come batch by batch.    X [n,i]  V [k,i]

    (Paischer et al., 2024, arXiv:2410.07170, with the incremental decomposition of Ross et al., 2008.) B is zero, so
    that the new layer is the old one, and A sees as much of the inputs' variance as r rows can. Of N rows with the
    mean μ are known σ [k], V, and T, the sum of their squares around μ. With n more rows of the mean ν:

        M = [diag(σ) V; X − ν; √(N n/(N+n)) (μ − ν)]           (1)   X − ν alone where N = 0
        M = U diag(σ) V, its first k                           (2)
        T ← T + ‖X − ν‖² + N n/(N+n) ‖μ − ν‖²                  (3)
        μ ← (N μ + n ν) / (N+n)                                (4)

    σ²/T is the share of the variance that each direction explains. Each direction's largest number is positive.

    Identity: Mᵀ M is the rows' scatter around the new μ, but for what (2) has cut before.
    """

    def __init__(self, k: int, tau: float, rng: np.random.Generator) -> None:
        self.k, self.tau, self._rng = k, tau, rng
        self.rows, self.variance = 0, 0.0  # N, T
        self.known = np.zeros(k, dtype=bool)  # which directions are as they were
        self.values: Array | None = None  # σ [k]
        self.directions: Array | None = None  # V [k,i]
        self._mean: Array | None = None  # μ [i]

    def see(self, X: Array) -> None:
        """Take n more rows; fewer than k are passed over."""
        n, N = len(X), self.rows
        if n < self.k:
            return
        mean, before = X.mean(axis=0), self.directions
        M = X - mean
        self.variance += float(np.square(M, dtype=np.float64).sum())  # (3)
        if before is None:
            self._mean = mean
        else:
            assert self.values is not None and self._mean is not None, "directions of no rows"
            weight = N * n / (N + n)
            moved = self._mean - mean
            M = np.concatenate([self.values[:, None] * before, M, X.dtype.type(weight**0.5) * moved[None]])  # (1)
            self.variance += weight * float(np.square(moved, dtype=np.float64).sum())  # (3)
            self._mean = self._mean + X.dtype.type(n / (N + n)) * (mean - self._mean)  # (4)
        _, S, V = randomised_svd(M, min(2 * self.k, *M.shape), _TURNS, self._rng)  # (2)
        V = V[: self.k]
        largest = V[np.arange(self.k), np.abs(V).argmax(axis=1)]
        self.values, self.directions, self.rows = S[: self.k], V * np.sign(largest)[:, None], N + n
        if before is not None:
            self.known = (self.directions * before).sum(axis=1) >= self.tau

    @property
    def shares(self) -> Array:
        """The share of the variance that each direction explains [k]."""
        assert self.values is not None, "no rows were seen"
        return np.square(self.values, dtype=np.float64) / (self.variance or 1.0)

    @property
    def spanned(self) -> int:
        """How many directions the rows have, of the first k."""
        assert self.values is not None, "no rows were seen"
        return int((self.values > _ROUNDINGS * np.finfo(self.values.dtype).eps * self.values[0]).sum())

    def start(self, r: int, whiten: bool) -> Array:
        """A [r,i]. With `whiten`, A = diag(σ)^(−½) V. PEFT divides in place there, and so once for each of the layers
        that have the same inputs."""
        assert self.values is not None and self.directions is not None, "no rows were seen"
        A = self.directions[:r]
        return A / np.sqrt(self.values[:r])[:, None] if whiten else A.copy()


def ranks(shares: Mapping[str, Array], groups: Sequence[Sequence[str]], budget: int) -> dict[str, int]:
    """Give the budget, Σ r, to the directions of all layers that explain most: each layer's rank is how many it gets.

    groups : the layers of equal inputs, each group's shares under the first; of equal shares the first has the first
    """
    order = [group[0] for group in groups] + [path for group in groups for path in group[1:]]
    first = {path: group[0] for group in groups for path in group}
    owners = [path for path in order for _ in shares[first[path]]]
    values = np.concatenate([shares[first[path]] for path in order])
    chosen = [owners[place] for place in np.argsort(-values, kind="stable")[:budget]]
    return {path: chosen.count(path) for path in order}
