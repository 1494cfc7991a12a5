"""For tests of gradients, in pytest or any other: `assert_gradients`; with Hypothesis, `npora.testing.strategies`."""

from npora.testing.gradients import assert_gradients

__all__ = ["assert_gradients"]
