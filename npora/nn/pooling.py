"""One row made of all of a sequence's."""

from __future__ import annotations

import numpy as np

from npora.nn.module import Array, Pullback
from npora.nn.packing import Packing


def mean_of_sequences(x: Array, packing: Packing) -> tuple[Array, Pullback]:
    """y_b = Σ x_n / s over the s rows of sequence b.    x [n,m]  →  y [b,m]

        dx_n = dy_b / s        (1)

    Raises
    ------
    ValueError: a sequence without rows, or rows that are nobody's.
    """
    starts, lengths = packing.first_rows(), packing.lengths[:, None]  # [b], [b,1]
    if not packing.is_full:
        raise ValueError("the mean of a sequence's rows takes a packing without rows of nobody")

    def backward(dy: Array) -> Array:
        share = dy / lengths.astype(dy.real.dtype)  # (1)
        return np.repeat(share, packing.lengths, axis=0)  # [b,m] → [n,m]

    return np.add.reduceat(x, starts, axis=0) / lengths.astype(x.real.dtype), backward  # [n,m] → [b,m]
