"""Blocks of rows on threads give what the plain form gives."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from npora.nn import threads


@pytest.fixture(params=[1, 2, 3])
def count(request: Any, monkeypatch: Any) -> Iterator[int]:
    """So many threads, whatever BLAS is set to."""
    setting = [request.param]
    monkeypatch.setattr(threads, "_blas", lambda: (lambda: setting[0], lambda n: setting.__setitem__(0, n)))
    yield request.param
    assert setting[0] == request.param  # put back


def draw(*shape: int) -> Any:
    x = np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)
    x.flags.writeable = False
    return x


def test_by_rows_gives_the_bits_of_the_function_itself(count: int) -> None:
    x, y = draw(7, 301, 64), draw(7, 301, 64)
    found = threads.by_rows(lambda x, y: (x * y, (x + y).sum(axis=-1, keepdims=True)), x, y)
    assert found[0].tobytes() == (x * y).tobytes()
    assert found[1].tobytes() == (x + y).sum(axis=-1, keepdims=True).tobytes()


@pytest.mark.parametrize("size", [0, 5, threads.BLOCK, threads.BLOCK + 1, 3 * threads.BLOCK + 17])
def test_element_wise_gives_the_bits_of_the_function_itself(count: int, size: int) -> None:
    x = draw(size)
    assert threads.element_wise(np.exp, x).tobytes() == np.exp(x).tobytes()
    two = threads.element_wise(lambda x: (x + 1, 2 * x), x)
    assert [part.tobytes() for part in two] == [(x + 1).tobytes(), (2 * x).tobytes()]


def test_matmul_is_the_product_with_a_row_added(count: int) -> None:
    rng = np.random.default_rng(3)
    x, W = (rng.integers(-8, 9, shape).astype(np.float32) for shape in ((3, 211, 40), (40, 120)))  # exact in any order
    plus = rng.integers(-8, 9, 120).astype(np.float32)
    assert np.array_equal(threads.matmul(x, W, plus=plus), x @ W + plus)
    few, wide = x[:1, :2], rng.integers(-8, 9, (40, 9001)).astype(np.float32)  # a thread takes columns
    assert np.array_equal(threads.matmul(few, wide, plus=wide[3]), few @ wide + wide[3])
    assert np.array_equal(
        threads.matmul(x.reshape(-1, 40).T, x.reshape(-1, 40)), x.reshape(-1, 40).T @ x.reshape(-1, 40)
    )


def test_every_block_is_done_once_and_an_error_in_one_is_raised(count: int) -> None:
    done = np.zeros(1000, dtype=int)

    def work(block: slice) -> None:
        done[block] += 1

    threads.in_blocks(1000, 7, work)
    assert (done == 1).all()

    def fail(block: slice) -> None:
        if block.start == 14:
            raise ZeroDivisionError("in a block")

    with pytest.raises(ZeroDivisionError, match="in a block"):
        threads.in_blocks(1000, 7, fail)


def test_a_block_that_uses_threads_itself_does_so_alone(count: int) -> None:
    seen: list[int] = []
    threads.in_blocks(4, 1, lambda block: seen.append(threads.num_threads()))
    assert seen == [1] * 4 if count > 1 else len(seen) == 4


def test_floating_point_warnings_are_silenced_on_every_thread_as_the_caller_asked(count: int) -> None:
    big = np.full((4 * threads.BLOCK,), 1e38, dtype=np.float32)
    with np.errstate(over="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isinf(threads.element_wise(lambda x: x * x, big)).all()


def test_the_blas_of_this_numpy_can_be_asked_for_its_threads_or_there_is_one() -> None:
    assert threads.num_threads() >= 1
