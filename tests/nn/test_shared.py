"""A value that several layers read: what they give back for it is summed, and once."""

from __future__ import annotations

import numpy as np

from npora.nn.residual import Shared


def test_the_gradients_are_summed_and_the_sum_begins_anew() -> None:
    rng = np.random.default_rng(0)
    value, first, second = rng.standard_normal((3, 2, 5))
    shared, before = Shared(value), first.copy()
    shared.add(first)
    assert shared.gradient() is first
    for given in (first, second, second):
        given.flags.writeable = False
        shared.add(given)
    np.testing.assert_allclose(shared.gradient(), before + 2 * second, rtol=0, atol=1e-15)
    assert not shared.gradient().any() and shared.gradient().shape == (2, 5)
    assert shared.value is value
