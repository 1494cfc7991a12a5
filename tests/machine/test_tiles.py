"""The product with a stored matrix: where it is cut, and that each part of the matrix is read once."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from npora.machine import stored, tiles
from npora.machine.stored import Stored, bits_of, form_of, in_pieces, is_quantized, same_values
from npora.machine.tiles import tiled_product


class Seen(Stored):
    """A matrix that notes which of its parts are read."""

    form, kind = "an open form", "F64"

    def __init__(self, floats: Any) -> None:
        self.bits, self.shape, self.dtype = floats, floats.shape, floats.dtype
        self.read: list[Any] = []

    def __getitem__(self, index: Any) -> Any:
        self.read.append(index)
        return self.bits[index]


def drawn(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape)


def edges(parts: Any) -> list[int]:
    return [0, *(part.stop for part in parts)]


@pytest.mark.parametrize(
    ("width", "most", "grain", "expected"),
    [(0, 256, 1, [0, 0]), (1, 64, 1, [0, 1]), (5, 64, 1, [0, 5]), (256, 256, 1, [0, 256]), (257, 256, 1, [0, 144, 257]),
     (600, 256, 1, [0, 208, 416, 600]), (1025, 1024, 1, [0, 528, 1025]), (600, 256, 24, [0, 240, 480, 600]),
     (40, 64, 32, [0, 40]), (40, 32, 32, [0, 32, 40]),
     (600, 256, 32, [0, 224, 448, 600]), (1025, 1024, 64, [0, 576, 1025]), (300, 144, 256, [0, 256, 300])],
)  # fmt: skip
def test_an_axis_is_cut_into_equal_sixteens_and_whole_grains(
    width: int, most: int, grain: int, expected: list[int]
) -> None:
    parts = tiles._cut(width, most, grain)
    assert edges(parts) == expected and [part.start for part in parts] == expected[:-1]


@pytest.mark.parametrize(
    ("i", "o", "rows", "columns"),
    [
        (3, 65, [0, 3], [0, 48, 65]),  # no column is narrower than 64, but for the last
        (1025, 512, [0, 528, 1025], [0, 128, 256, 384, 512]),  # a fourth of the columns
        (1024, 1028, [0, 1024], [0, 208, 416, 624, 832, 1028]),  # and 256 at most
    ],
)
def test_each_tile_is_read_once_and_in_its_order(i: int, o: int, rows: list[int], columns: list[int]) -> None:
    a, W = drawn(5, i), Seen(drawn(i, o))
    np.testing.assert_allclose(tiled_product(a, W), np.einsum("ni,io->no", a, W.bits), rtol=0, atol=1e-11)
    found = sorted((across.start, down.start) for down, across in W.read)
    assert found == [(across, down) for across in columns[:-1] for down in rows[:-1]]


@pytest.mark.parametrize(
    ("i", "o", "columns"),
    [(1023, 512, [0, 512]), (1023, 513, [0, 272, 513]), (1024, 512, [0, 256, 512]), (9000, 70, [0, 48, 70])],
)
def test_one_row_is_multiplied_by_whole_columns_in_larger_tiles(i: int, o: int, columns: list[int]) -> None:
    a, W = drawn(1, i), Seen(drawn(i, o))
    np.testing.assert_allclose(tiled_product(a, W), a @ W.bits, rtol=0, atol=1e-11)
    assert sorted((across.start, across.stop, down) for down, across in W.read) == [
        (*part, slice(0, i)) for part in itertools.pairwise(columns)
    ]
    W.read.clear()
    np.testing.assert_allclose(tiled_product(drawn(1, o), W.T), drawn(1, o) @ W.bits.T, rtol=0, atol=1e-11)
    assert all(down.stop - down.start <= i and across == slice(0, o) for down, across in W.read)


@pytest.mark.parametrize(("n", "i", "o", "divided"), [(8, 600, 500, True), (7, 600, 500, False), (8, 2999, 100, False)])
def test_work_of_twelve_millions_is_divided(
    monkeypatch: pytest.MonkeyPatch, n: int, i: int, o: int, divided: bool
) -> None:
    """i o (n + 32), for what is read."""
    asked: list[int] = []
    monkeypatch.setattr(tiles, "in_parallel", lambda tasks: asked.append(len(tasks)) or [task() for task in tasks])
    a, W = drawn(n, i), Seen(drawn(i, o))
    np.testing.assert_allclose(tiled_product(a, W), a @ W.bits, rtol=0, atol=1e-11)
    assert bool(asked) == divided


def test_a_stored_matrix_is_its_floats() -> None:
    W = Seen(drawn(3, 5))
    assert (W.ndim, W.size, len(W), W.T.shape, W.T.T) == (2, 15, 3, (5, 3), W)
    assert W.tobytes() == W.bits.tobytes() and np.array_equal(np.asarray(W.T), W.bits.T)
    assert W.astype(np.float64, copy=False) is W and np.array_equal(W.astype(np.float64), W.bits)
    narrow = W.astype(np.float32, copy=False)
    assert narrow.bits is W.bits and narrow.dtype == narrow[:].dtype == narrow.T[:].dtype == np.float32
    assert (form_of(W), form_of(W.bits)) == ("an open form", "float64")
    assert bits_of(W) is W.bits and bits_of(W.bits) is W.bits
    assert not is_quantized(W) and not is_quantized(W.bits)
    W.is_exact = False
    assert is_quantized(W)


@pytest.mark.parametrize(
    ("shape", "rows"), [((6, 1), [4, 2]), ((3, 8), [1, 1, 1]), ((5, 2), [2, 2, 1]), ((0, 3), []), ((3, 0), [3])]
)
def test_a_matrix_is_read_in_pieces_of_rows(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int], rows: list[int]
) -> None:
    monkeypatch.setattr(stored, "_PIECE", 4)
    W = Seen(drawn(*shape))
    pieces = list(in_pieces(W))
    assert [len(piece) for piece in pieces] == rows
    assert np.array_equal(np.concatenate([*pieces, np.empty((0, shape[1]))]), W.bits)
    (whole,) = in_pieces(W.bits)
    assert whole is W.bits


def test_two_matrices_are_compared_by_their_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_PIECE", 4)
    W = drawn(3, 4)
    other = W.copy()
    other[2, 3] += 1
    for one in (W, Seen(W)):
        for same in (W.copy(), Seen(W.copy())):
            assert same_values(one, same) is True
        for differs in (other, Seen(other), W[:2], Seen(W[:2])):
            assert same_values(one, differs) is same_values(differs, one) is False
