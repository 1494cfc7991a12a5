"""Hypothesis strategies: shapes, strides, empty arrays and arrays without axes, to be given to functions of arrays.

    @given(strategies.arrays(strategies.shapes(min_dims=1)))
    def test_softmax(x):
        assert_gradients(softmax, x)

The values come from a Generator whose seed is drawn, and are of size 1: what shrinks are shapes and strides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from npora.nn.module import Array

try:
    from hypothesis import strategies as st
except ImportError:
    raise ImportError("npora.testing.strategies needs Hypothesis: pip install hypothesis") from None

Strategy = st.SearchStrategy[Any]
_MOST = 2**32 - 1


def seeds() -> Strategy:
    """Seeds of a Generator."""
    return st.integers(0, _MOST)


def shapes(min_dims: int = 0, max_dims: int = 3, min_side: int = 1, max_side: int = 5) -> Strategy:
    """Shapes; the one without axes is (). With min_side=0, those of arrays without elements are among them."""
    return st.lists(st.integers(min_side, max_side), min_size=min_dims, max_size=max_dims).map(tuple)


def distinct_shapes(dims: int, min_side: int = 2, max_side: int = 7) -> Strategy:
    """Shapes whose sides all differ, so that a transpose or a sum over the wrong axis shows."""
    sides = st.integers(min_side, max_side)
    return st.lists(sides, min_size=dims, max_size=dims, unique=True).map(tuple)


def empty_shapes(max_dims: int = 3, max_side: int = 5) -> Strategy:
    """Shapes with at least one side of 0."""
    return shapes(1, max_dims, 0, max_side).filter(lambda shape: 0 in shape)


@st.composite
def arrays(draw: st.DrawFn, shape: Any = None, dtype: npt.DTypeLike = np.float64, strided: bool = True) -> Any:
    """Arrays of normal numbers. shape : a shape or a strategy of shapes, shapes() unless given; strided : with the
    strides that slicing, reversing, transposing and broadcasting leave behind, too."""
    wanted = shapes() if shape is None else shape
    chosen: tuple[int, ...] = draw(wanted if isinstance(wanted, st.SearchStrategy) else st.just(wanted))
    rng = np.random.default_rng(draw(seeds()))
    layout = draw(st.sampled_from(["C", "F", "sliced", "reversed", "transposed", "offset"])) if strided else "C"
    return laid_out(lambda size: np.asarray(rng.standard_normal(size), dtype), chosen, layout)


def laid_out(make: Any, shape: tuple[int, ...], layout: str) -> Array:
    """An array of this shape whose memory is laid out as C, F, sliced, reversed, transposed or offset."""
    if layout == "F":
        return np.asarray(make(shape), order="F")  # np.asfortranarray gives what has no axis one
    if layout == "sliced":
        whole = make(tuple(2 * side for side in shape))
        return np.asarray(whole[tuple(slice(None, None, 2) for _ in shape)])
    if layout == "reversed":
        return np.asarray(make(shape)[tuple(slice(None, None, -1) for _ in shape)])
    if layout == "transposed":
        return np.asarray(make(shape[::-1]).T)
    if layout == "offset":
        whole = make(tuple(side + 1 for side in shape))
        return np.asarray(whole[tuple(slice(1, None) for _ in shape)])
    return np.asarray(make(shape))


def without_axes(dtype: npt.DTypeLike = np.float64) -> Strategy:
    """Arrays of one number, without axes."""
    return arrays((), dtype)


def empty(dtype: npt.DTypeLike = np.float64) -> Strategy:
    """Arrays without elements."""
    return arrays(empty_shapes(), dtype)
