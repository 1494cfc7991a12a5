"""BLAS has one thread while npora computes, and then what it had."""

from __future__ import annotations

import pytest

from npora.machine import blas


def pretend(monkeypatch: pytest.MonkeyPatch, number: int) -> list[int]:
    """A BLAS that has so many threads: the list that it keeps their number in."""
    threads = [number]
    monkeypatch.setattr(blas, "_functions", lambda: (lambda: threads[0], lambda n: threads.__setitem__(0, n)))
    return threads


def test_blas_is_told_to_use_one_thread_and_then_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = pretend(monkeypatch, 3)
    with pytest.raises(KeyError), blas.on_one_thread():
        assert threads == [1]
        assert blas.number_of_threads() == 3  # of a product outside
        raise KeyError
    assert threads == [3] and blas.number_of_threads() == 3


def test_of_blocks_that_overlap_the_last_to_end_gives_back_what_the_first_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = pretend(monkeypatch, 3)
    one, two = blas.on_one_thread(), blas.on_one_thread()  # of two threads
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert threads == [1]
    two.__exit__(None, None, None)
    assert threads == [3]
    threads[0] = 5  # somebody else's business
    with one:
        assert threads == [1]
    assert threads == [5]


def test_of_a_blas_that_is_not_known_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_functions", lambda: None)
    with blas.on_one_thread():
        assert blas.number_of_threads() is None
