"""Work in parallel: results in order, errors raised, nothing left behind."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import multiprocessing
import queue
import signal
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.machine import blas
from npora.machine import threads as page
from npora.machine.threads import get_num_threads, in_order, in_parallel, is_inside, set_num_threads


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    yield
    set_num_threads(None)


@given(st.lists(st.floats(0, 2e-4), max_size=12), st.integers(1, 5))
def test_results_are_in_order_however_long_each_takes(seconds: list[float], threads: int) -> None:
    set_num_threads(threads)

    def task(i: int) -> int:
        time.sleep(seconds[i])
        return i * i

    assert in_parallel([partial(task, i) for i in range(len(seconds))]) == [i * i for i in range(len(seconds))]


def test_as_many_are_at_work_at_a_time_as_there_are_threads() -> None:
    set_num_threads(3)
    meeting = threading.Barrier(3)  # a thread fewer, and they would wait for ever
    met = in_parallel([lambda: (meeting.wait(timeout=60) and None) or threading.get_ident()] * 3)
    assert len(set(met)) == 3
    set_num_threads(1)
    assert set(in_parallel([threading.get_ident] * 5)) == {threading.get_ident()}


def test_in_order_they_follow_each_other_on_the_callers_thread_and_may_have_others_inside() -> None:
    set_num_threads(3)
    seen: list[int] = []

    def task(i: int) -> int:
        assert not is_inside() and threading.get_ident() == here and len(in_parallel([int, int])) == 2
        time.sleep(0.002 * (4 - i))
        seen.append(i)
        return i * i

    here = threading.get_ident()
    assert in_order([partial(task, i) for i in range(4)]) == [0, 1, 4, 9] and seen == [0, 1, 2, 3]
    assert in_order([]) == []


def test_a_thread_that_is_held_up_keeps_nobody_from_the_rest() -> None:
    set_num_threads(2)
    rest = [threading.Event() for _ in range(6)]

    def first() -> bool:
        return all(event.wait(60) for event in rest)

    assert in_parallel([first, *(event.set for event in rest)]) == [True, *[None] * 6]


def test_work_inside_other_work_stays_on_its_thread() -> None:
    set_num_threads(3)

    def outer() -> list[Any]:
        assert is_inside()
        return [threading.get_ident(), *in_parallel([threading.get_ident] * 4)]

    for idents in in_parallel([outer] * 6):
        assert len(set(idents)) == 1
    assert not is_inside()
    (alone,) = in_parallel([lambda: (is_inside(), in_parallel([threading.get_ident] * 2))])
    assert alone[0] is False  # one piece is not cut: what is in it may be


def test_the_first_error_is_raised_and_what_has_not_begun_does_not_begin() -> None:
    for threads in (1, 2, 4):
        set_num_threads(threads)
        begun: list[int] = []

        def task(i: int, begun: list[int] = begun) -> None:
            begun.append(i)
            if i >= 3:
                raise ValueError(f"number {i}")

        with pytest.raises(ValueError, match="number 3"):
            in_parallel([partial(task, i) for i in range(100)])
        assert len(begun) <= 4 + threads and not is_inside()
        assert in_parallel([lambda: 1, lambda: 2]) == [1, 2]


def test_what_the_caller_says_of_overflows_holds_on_all_threads() -> None:
    for threads in (1, 2):
        set_num_threads(threads)
        with np.errstate(over="ignore", invalid="raise"):
            seen = in_parallel([np.geterr] * 5)
        assert {(state["over"], state["invalid"]) for state in seen} == {("ignore", "raise")}


def test_two_callers_at_once_both_get_their_own() -> None:
    set_num_threads(3)
    found: dict[int, list[Any]] = {}

    def call(number: int) -> None:
        for _ in range(50):
            found[number] = in_parallel([lambda i=i: (number, i) for i in range(7)])
            assert found[number] == [(number, i) for i in range(7)]

    callers = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(found) == [0, 1, 2, 3] and all(len(results) == 7 for results in found.values())


def _in_a_child(results: Any) -> None:
    set_num_threads(2)
    meeting = threading.Barrier(2)
    results.put(in_parallel([lambda: meeting.wait(timeout=60) >= 0] * 2))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs a system that forks")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python warns of forks beside threads, which are the matter
def test_a_forked_child_has_threads_of_its_own() -> None:
    set_num_threads(2)
    in_parallel([lambda: None] * 4)
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    child = fork.Process(target=_in_a_child, args=(results,))
    child.start()
    assert results.get(timeout=60) == [True, True]
    child.join()


def test_blas_has_one_thread_meanwhile_and_its_own_number_after(monkeypatch: pytest.MonkeyPatch) -> None:
    number = [3]
    monkeypatch.setattr(blas, "_functions", lambda: (lambda: number[0], lambda n: number.__setitem__(0, n)))
    assert get_num_threads() == 3
    for tasks in (1, 2, 9):
        assert set(in_parallel([lambda: (number[0], get_num_threads())] * tasks)) == {(1, 3)}
        assert number == [3]
    with pytest.raises(ZeroDivisionError):
        in_parallel([lambda: 1 // 0] * 2)
    assert number == [3]
    monkeypatch.setattr(blas, "_functions", lambda: None)
    assert get_num_threads() == 1


@pytest.mark.parametrize("number", [0, -1, 2.0, True, "two"])
def test_a_number_of_threads_without_meaning_is_refused(number: Any) -> None:
    with pytest.raises(ValueError, match="whole number of at least 1"):
        set_num_threads(number)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs a system with signals")
def test_an_interruption_waits_for_what_has_begun_and_begins_no_more(request: pytest.FixtureRequest) -> None:
    set_num_threads(3)
    main, begun, ended = threading.get_ident(), [], []
    waiting = threading.Event()

    def task(i: int) -> None:
        if threading.get_ident() == main:
            return  # and so waits for the others
        begun.append(i)
        if len(begun) == 1:
            waiting.wait(60)
            time.sleep(0.05)  # for the caller to have found nothing left to take
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(0.2)
        ended.append(i)

    def first() -> None:
        while not begun:
            time.sleep(0.001)
        waiting.set()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with pytest.raises(KeyboardInterrupt):
        in_parallel([first, *(partial(task, i) for i in range(1, 9))])
    assert begun and sorted(ended) == sorted(begun)


def test_neither_results_nor_an_error_are_held_by_what_has_ended() -> None:
    class Large:
        pass

    made: list[weakref.ref[Any]] = []

    def make() -> Large:
        made.append(weakref.ref(large := Large()))
        return large

    def fail() -> None:
        made.append(weakref.ref(large := Large()))
        raise ValueError(f"{large} is in the frame of this error")

    set_num_threads(9)
    there, busy = threading.Barrier(10), threading.Event()
    wait = partial(lambda: (there.wait(60), busy.wait(60)))
    other = threading.Thread(target=lambda: in_parallel([wait] * 9))  # all threads of the pool are another caller's
    other.start()
    there.wait(60)
    gc.disable()
    try:
        in_parallel([make, make])
        with contextlib.suppress(ValueError):
            in_parallel([fail, fail])
        assert made and not any(large() for large in made)
    finally:
        gc.enable()
        busy.set()
        other.join()


def test_where_the_system_gives_no_threads_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    set_num_threads(99)  # more than any test has made the pool grow to
    assert in_parallel([threading.get_ident] * 3) == [threading.get_ident()] * 3


def test_the_pool_has_a_thread_fewer_than_are_asked_for_and_none_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: begun.append(thread.name) or start(thread))
    monkeypatch.setattr(page, "_workers", 0)
    monkeypatch.setattr(page, "_inbox", queue.SimpleQueue())
    set_num_threads(3)
    for _ in range(2):
        assert in_parallel([int] * 5) == [0] * 5
        assert begun == ["npora-1", "npora-2"]
    set_num_threads(4)
    in_parallel([int] * 5)
    assert begun == ["npora-1", "npora-2", "npora-3"]


def test_an_interruption_is_raised_before_any_tasks_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError("of a task")

    shared = page._Shared([fail, fail])
    waits = iter([KeyboardInterrupt, None])

    def wait() -> None:
        if (error := next(waits)) is not None:
            raise error

    monkeypatch.setattr(shared, "_wait", wait)
    with pytest.raises(KeyboardInterrupt):
        shared.finished()


def test_of_errors_on_two_threads_the_first_tasks_is_raised() -> None:
    set_num_threads(2)
    for _ in range(3):
        meeting = threading.Barrier(2)

        def failing(number: int, meeting: threading.Barrier = meeting) -> None:
            meeting.wait(timeout=60)
            raise ValueError(number)

        with pytest.raises(ValueError, match="0"):
            in_parallel([partial(failing, 0), partial(failing, 1)])


def test_no_more_are_at_work_than_now_are_asked_for_however_many_there_were() -> None:
    set_num_threads(4)
    meeting = threading.Barrier(4)
    in_parallel([lambda: meeting.wait(timeout=60)] * 4)  # so there are four
    set_num_threads(2)
    at_once = threading.Barrier(3)

    def would_meet_a_third() -> bool:
        try:
            at_once.wait(timeout=0.2)
        except threading.BrokenBarrierError:
            return False
        return True

    assert not any(in_parallel([would_meet_a_third] * 3))


def test_a_helpers_thread_sees_the_callers_context() -> None:
    set_num_threads(2)
    said: contextvars.ContextVar[str] = contextvars.ContextVar("said", default="nothing")
    said.set("something")
    meeting = threading.Barrier(2)  # so that each of the two has one

    def seen() -> str:
        meeting.wait(timeout=60)
        return said.get()

    assert in_parallel([seen, seen]) == ["something", "something"]
