"""assert_gradients says what is wrong and how to see it again; the strategies draw what they say."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from npora.nn import Linear
from npora.nn import functional as F
from npora.testing import assert_gradients, strategies
from npora.testing.strategies import laid_out


def halved(x: np.ndarray) -> Any:
    return np.sin(x), lambda dy: dy * np.cos(x) / 2


def sine(x: np.ndarray) -> Any:
    return np.sin(x)


def wrong(dy: np.ndarray, x: np.ndarray) -> Any:
    return -dy * np.cos(x)


def reproduced(text: str) -> AssertionError:
    """What the line that reproduces a failure raises, when it runs."""
    line = text.partition("reproduce: ")[2]
    with pytest.raises(AssertionError) as failure:
        exec(line, {})
    return failure.value


def test_what_is_right_passes_and_gives_its_report() -> None:
    assert assert_gradients(F.softmax, shapes=[(3, 5)])["x"].verdict == "PASS"
    assert assert_gradients(sine, np.ones(3), vjp=lambda dy, x: dy * np.cos(x))


@pytest.mark.parametrize(
    ("inputs", "keywords"),
    [
        ((), {"shapes": [(3, 2)], "seed": 7}),
        ((np.array([[0.1, 1 / 3]]),), {}),
        ((np.float32([0.5, 2.5]),), {"dtype": "float32"}),
    ],
)
def test_a_failure_is_told_with_a_line_that_reproduces_it(inputs: Any, keywords: Any) -> None:
    with pytest.raises(AssertionError, match=r"a constant factor 0\.5") as failure:
        assert_gradients(halved, *inputs, **keywords)
    text = str(failure.value)
    again = str(reproduced(text))
    worst = re.compile(r"^x .*FAIL.*$", re.MULTILINE)
    assert worst.findall(text) == worst.findall(again) and "from tests.testing.test_gradients import halved" in text


def test_a_pair_of_functions_is_reproduced_too() -> None:
    with pytest.raises(AssertionError, match=r"\(the sign\)") as failure:
        assert_gradients(sine, shapes=[(4,)], vjp=wrong)
    assert "the sign" in str(reproduced(str(failure.value)))


def test_what_cannot_be_written_in_a_line_is_named() -> None:
    with pytest.raises(AssertionError, match=r"assert_gradients\(<lambda>, <ndarray>, seed=0\)"):
        assert_gradients(lambda x: halved(x), np.ones(99))
    with pytest.raises(TypeError, match="takes inputs or shapes"):
        assert_gradients(halved, np.ones(2), shapes=[(2,)])


@settings(max_examples=8, deadline=None)
@given(strategies.arrays(strategies.shapes(min_dims=1)))
def test_softmax_is_right_at_any_shape_and_stride(x: np.ndarray) -> None:
    y, backward = F.softmax(x)
    assert y.shape == x.shape == backward(np.ones_like(y)).shape
    if x.shape[-1] > 1:
        assert_gradients(F.softmax, x)


@settings(max_examples=10, deadline=None)
@given(strategies.empty(np.float32), strategies.without_axes(), strategies.distinct_shapes(3))
def test_what_is_drawn_is_what_was_asked_for(none: np.ndarray, one: np.ndarray, shape: tuple[int, ...]) -> None:
    assert none.size == 0 and none.dtype == np.float32 and one.shape == () and one.dtype == np.float64
    assert len(set(shape)) == 3 and min(shape) >= 2
    assert Linear(3, 2, rng=0)(np.zeros((*none.shape, 3), np.float32))[0].shape == (*none.shape, 2)


@pytest.mark.parametrize("layout", ["C", "F", "sliced", "reversed", "transposed", "offset"])
def test_each_layout_has_its_strides_and_the_shape(layout: str) -> None:
    x = laid_out(lambda shape: np.zeros(shape), (2, 3), layout)
    assert x.shape == (2, 3)
    strides = {
        "C": (24, 8), "F": (8, 16), "sliced": (96, 16), "reversed": (-24, -8), "transposed": (8, 16), "offset": (32, 8)
    }  # fmt: skip
    assert x.strides == strides[layout]
