"""The embedding: rows of a table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from npora.nn import init
from npora.nn.init import Seed
from npora.nn.module import Array, Parameter
from npora.nn.weighted import Weighted


class Embedding(Weighted):
    """y = E[ids].    ids int [...]  E [v,m]  →  y [...,m]

        dE[i] = Σ dyₙ over the n with idsₙ = i     (1)   a token that occurs twice adds twice

    The row `padding_idx` gets no gradient. Ids have none, so backward returns None.

    Raises
    ------
    ValueError: an id outside [0, v); it names the place. (NumPy would take −1 as the last row.)

    What goes on a Linear finds the same here: the layer is y = x Wᵀ of W = Eᵀ [m,v] and of x [...,v], whose rows are 1
    at the id and 0 elsewhere.
    """

    bias: None = None

    def __init__(
        self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, rng: Seed = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:  # fmt: skip
        self.weight = Parameter(init.normal(init.default_rng(rng), (num_embeddings, embedding_dim), 1.0, dtype))
        self.padding_idx = padding_idx

    def forward(self, ids: Array) -> tuple[Array, Callable[[Array], None]]:
        weight, padding_idx = self.weight, self.padding_idx
        E, ids = weight.data, np.asarray(ids)
        if not np.issubdtype(ids.dtype, np.integer):
            raise TypeError(f"an embedding takes integer ids, not {ids.dtype}: pass ids.astype(np.int64)")
        if (outside := np.argwhere((ids < 0) | (ids >= len(E)))).size:
            place = tuple(int(index) for index in outside[0])
            raise ValueError(f"id {ids[place]} at {place} is not in this embedding's range 0 … {len(E) - 1}")

        def backward(dy: Array) -> None:
            if weight.requires_grad:
                dE = np.zeros_like(E)
                np.add.at(dE, ids, dy)  # (1) [v,m]
                if padding_idx is not None:
                    dE[padding_idx] = 0
                weight.accumulate(dE)

        return E[ids], backward  # [...] → [...,m]

    def turned(self, W: Array) -> Array:
        return W.T  # [m,v] → [v,m], and back
