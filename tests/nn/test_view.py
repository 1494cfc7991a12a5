"""A view: what is computed at the rows that are read is what all rows would have there, values and gradients."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.nn import Cache, Linear, Packing
from npora.nn.functional import causal, everything, window
from npora.nn.module import Array, Pullback
from npora.nn.residual import chain, residual
from npora.nn.view import View, pick_rows, self_attention

HEADS, GROUPS, WIDTH = 6, 3, 2
RULES = (everything, causal, window(1), window(3))


def drawn(rng: np.random.Generator, rows: int) -> tuple[Array, Array, Array]:
    q, k, v = rng.standard_normal((3, rows, HEADS * WIDTH))
    return q, k[:, : GROUPS * WIDTH], v[:, : GROUPS * WIDTH]


@given(
    lengths=st.lists(st.integers(0, 7), min_size=1, max_size=5),
    rule=st.sampled_from(RULES),
    seed=st.integers(0, 999),
    scores=st.sampled_from([1, 40, 1 << 18]),
    data=st.data(),
)
def test_attention_at_the_rows_that_are_read_is_that_of_all_rows_there(
    lengths: list[int], rule: object, seed: int, scores: int, data: st.DataObject
) -> None:
    packing, rng = Packing.of_lengths(lengths), np.random.default_rng(seed)
    n = packing.rows
    read = np.array(sorted(data.draw(st.sets(st.integers(0, n - 1)))) if n else [], dtype=int)
    q, k, v = drawn(rng, n)
    attend = partial(self_attention, rule=rule, scores_at_once=scores)
    every, back_every = attend(q, k, v, HEADS, View(packing))
    some, back_some = attend(q[read], k, v, HEADS, View(packing, read))
    np.testing.assert_allclose(some, every[read], rtol=0, atol=1e-14)
    dy = rng.standard_normal(some.shape)
    dall = np.zeros_like(every)
    dall[read] = dy
    dq, dk, dv, _ = back_some(dy)
    for found, expected in zip((dq, dk, dv), (back_every(dall)[0][read], *back_every(dall)[1:3]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13)


@given(
    before=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    rule=st.sampled_from(RULES),
    seed=st.integers(0, 999),
    data=st.data(),
)
def test_the_rows_that_are_read_follow_those_that_a_cache_holds(
    before: list[int], rule: object, seed: int, data: st.DataObject
) -> None:
    after = data.draw(st.lists(st.integers(0, 4), min_size=len(before), max_size=len(before)))
    first, then, rng = Packing.of_lengths(before), Packing.of_lengths(after), np.random.default_rng(seed)
    read = np.array(sorted(data.draw(st.sets(st.integers(0, then.rows - 1)))) if then.rows else [], dtype=int)
    whole = Packing.of_lengths(np.add(before, after))
    q, k, v = drawn(rng, whole.rows)
    is_new = whole.places >= np.array(before)[whole.sequences]
    cache = Cache()[0]
    self_attention(q[~is_new], k[~is_new], v[~is_new], HEADS, View(first), rule, cache)
    new = self_attention(q[is_new][read], k[is_new], v[is_new], HEADS, View(then, read), rule, cache)[0]
    expected = self_attention(q, k, v, HEADS, View(whole), rule)[0][is_new][read]
    np.testing.assert_allclose(new, expected, rtol=0, atol=1e-14)


def test_a_window_counts_places_and_not_the_rows_that_are_read() -> None:
    """Rows 1 and 4 of one sequence: a window of two keys ends at each of them."""
    packing, rng = Packing.of_lengths([6]), np.random.default_rng(3)
    q, k, v = drawn(rng, 6)
    reached = []
    for row in (1, 4):
        _, back = self_attention(q[[row]], k, v, HEADS, View(packing, np.array([row])), window(2))
        dk = back(rng.standard_normal((1, HEADS * WIDTH)))[1]
        reached.append(np.flatnonzero(np.abs(dk).sum(axis=1)).tolist())
    assert reached == [[0, 1], [3, 4]]


def test_rows_that_do_not_ascend_are_refused() -> None:
    for read in ([2, 1], [1, 1]):
        with pytest.raises(ValueError, match="the rows that are read must ascend"):
            View(Packing.of_lengths([3]), np.array(read))


def test_rows_are_picked_and_put_back() -> None:
    x, rows = np.random.default_rng(1).standard_normal((5, 3)), np.array([1, 4])
    y, back = pick_rows(x, rows)
    assert y.tolist() == x[rows].tolist()
    dy = np.arange(1.0, 7.0).reshape(2, 3)
    expected = np.zeros((5, 3))
    expected[[1, 4]] = dy
    assert back(dy).tolist() == expected.tolist()
    y, back = pick_rows(x, None)
    assert y is x and back(x) is x


def affine(i: int, o: int, seed: int) -> Linear:
    return Linear(i, o, rng=seed, dtype=np.float64)


def test_a_chain_and_a_residual_are_their_formulas() -> None:
    rng = np.random.default_rng(2)
    f, g = affine(3, 4, 1), affine(4, 3, 2)
    x, dy = rng.standard_normal((5, 3)), rng.standard_normal((5, 3))
    y, back = residual(chain(f, g), x)
    jacobian = f.weight.data.T @ g.weight.data.T  # [i,i]
    np.testing.assert_allclose(y, x + g(f(x)[0])[0], rtol=1e-15)
    np.testing.assert_allclose(back(dy), dy + dy @ jacobian.T, rtol=1e-13)


def test_a_residual_of_the_rows_that_are_read_takes_those_of_x() -> None:
    rng = np.random.default_rng(4)
    x, view = rng.standard_normal((5, 3)), View(Packing.of_lengths([2, 3]), np.array([1, 4]))
    f = affine(3, 3, 5)

    def picked(x: Array) -> tuple[Array, Pullback]:
        rows, back_rows = view.pick(x)
        y, back = f(rows)
        return y, lambda dy: back_rows(back(dy))

    y, back = residual(picked, x, view)
    np.testing.assert_allclose(y, x[[1, 4]] + f(x[[1, 4]])[0], rtol=1e-15)
    dy = rng.standard_normal((2, 3))
    expected = np.zeros((5, 3))
    expected[[1, 4]] = dy + dy @ f.weight.data
    np.testing.assert_allclose(back(dy), expected, rtol=1e-13)


def test_a_view_of_all_rows_is_one_that_names_none() -> None:
    packing = Packing.of_lengths([3, 0, 2])
    view = View(packing, np.arange(5))
    assert view.read is None and view.queries is packing and view.places(packing) is None
