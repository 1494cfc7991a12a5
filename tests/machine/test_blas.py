"""BLAS has one thread while npora computes, and then what it had."""

from __future__ import annotations

import os
import threading

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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python warns of forks beside threads, which are the matter
def test_a_forked_child_has_the_blocks_of_its_own_thread_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, held, end = pretend(monkeypatch, 3), threading.Event(), threading.Event()

    def hold() -> None:
        with blas.on_one_thread():
            held.set()
            end.wait(60)

    def in_a_child() -> int:
        child = os.fork()
        if not child:
            os._exit(threads[0])
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    other = threading.Thread(target=hold)
    other.start()
    held.wait(60)
    found = [in_a_child()]
    with blas.on_one_thread():
        found.append(in_a_child())
    end.set()
    other.join()
    assert found == [3, 1] and threads == [3]


def test_a_child_forgets_the_blocks_of_threads_that_it_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = pretend(monkeypatch, 5)
    monkeypatch.setattr(blas, "_of_this_thread", threading.local())
    blas._forget()
    assert threads == [5]  # nothing was held
    monkeypatch.setattr(blas, "_before", 3)
    monkeypatch.setattr(blas, "_held", 1)  # by another thread
    threads[0] = 1
    blas._forget()
    assert threads == [3] and blas._held == 0
    with blas.on_one_thread():
        monkeypatch.setattr(blas, "_held", 2)
        blas._forget()
        assert threads == [1] and blas._held == 1
    assert threads == [3] and blas._held == 0
    monkeypatch.setattr(blas, "_functions", lambda: None)
    monkeypatch.setattr(blas, "_held", 1)
    blas._forget()
    assert threads == [3] and blas._held == 0
