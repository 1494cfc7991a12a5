"""Attention of a long sequence never holds all of its scores, and none keeps what its backward does not read."""

from __future__ import annotations

import tracemalloc
import weakref

import numpy as np

from npora.nn import Packing
from npora.nn import functional as F


def test_neither_forward_nor_backward_holds_memory_that_grows_with_the_square_of_the_length() -> None:
    rng, t = np.random.default_rng(0), 3000
    q, k, v, dy = (rng.standard_normal((t, 2)) for _ in range(4))
    F.packed_attention(q[:9], k[:9], v[:9], 1, Packing.dense(1, 9))[1](dy[:9])
    tracemalloc.start()
    try:
        F.packed_attention(q, k, v, 1, Packing.dense(1, t), rule=F.causal)[1](dy)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < t * t * 8 / 4  # bytes; a block has 2¹⁸ scores, and some arrays of that size


def test_backward_keeps_no_bias() -> None:
    rng = np.random.default_rng(0)
    q, k, v, bias = (rng.standard_normal(shape) for shape in ((3, 2), (4, 2), (4, 2), (3, 4)))
    gone = weakref.ref(bias)
    y, backward = F.attention(q, k, v, bias=bias)
    del bias
    assert gone() is None and backward(y)[3].shape == (3, 4)
