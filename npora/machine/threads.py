"""Work in parallel, on threads of npora's own, with the same bits for any number of them.

A BLAS divides each product among its threads, which wait for each other without giving the processor away: beside
another program, or on products as small as those of short sentences, most of the time goes in waiting. So while npora
computes BLAS has one thread, and work is cut into pieces, by sizes alone and never by the number of threads. Whoever
is outermost takes the threads: the micro-batches of a batch, or else the pieces of one attention, or the blocks of one
product. What is inside runs on the thread that it finds itself on. A thread takes the next piece when it has finished
one, so that none waits for another that the system has put aside.
"""

from __future__ import annotations

import contextvars
import itertools
import os
import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from npora.machine import blas
from npora.machine.blas import on_one_thread

_Result = TypeVar("_Result")
_state = threading.local()
_lock = threading.Lock()
_inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
_workers = 0
_number: int | None = None  # set_num_threads's


def get_num_threads() -> int:
    """Return how many threads npora has: set_num_threads's number, else as many as BLAS would take, else 1."""
    return _number or blas.number_of_threads() or 1


def set_num_threads(number: int | None) -> None:
    """Compute with this many threads, or with as many as BLAS would take (None). The results' bits are the same.

    Raises
    ------
    ValueError: a number that is no whole number of at least 1.
    """
    global _number
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
        raise ValueError(f"the number of threads must be a whole number of at least 1, or None; got {number!r}")
    _number = number


def is_inside() -> bool:
    """Say whether the code that asks is part of work that was cut into several pieces already."""
    return getattr(_state, "inside", False)


def in_parallel(tasks: Sequence[Callable[[], _Result]]) -> list[_Result]:
    """Call all tasks and return what they return, in their order.

    They begin in that order, as many at a time as there are threads, and BLAS has one thread meanwhile.

    A single task, and the tasks of work that is inside other work, run on the caller's thread. Each call sees the
    caller's context variables, of which NumPy's errstate is one. Where calls raise, those that have not begun do not
    begin, and the first one's error is raised here.
    """
    if len(tasks) < 2:
        return in_order(tasks)
    with on_one_thread():
        helpers = 0 if is_inside() else min(get_num_threads(), len(tasks)) - 1
        shared = _Shared(tasks)
        for _ in range(helpers):
            _ask(shared.help)
        return shared.finished()


def in_order(tasks: Sequence[Callable[[], _Result]]) -> list[_Result]:
    """Call all tasks one after another, on the caller's thread, and return what they return: for work that adds to one
    array. What each of them cuts its own work into may run in parallel."""
    with on_one_thread():
        return [task() for task in tasks]


class _Shared:
    """Several threads take these tasks, one after another."""

    def __init__(self, tasks: Sequence[Callable[[], Any]]) -> None:
        self.tasks: Sequence[Callable[[], Any]] = tasks
        self.results: list[Any] = [None] * len(tasks)
        self.errors: dict[int, BaseException] = {}
        self.take = itertools.count().__next__  # one call of C, which no thread interrupts
        self.lock = threading.Lock()
        self.begun, self.ended, self.closed = 0, 0, False  # helpers; closed: it is too late to begin
        self.done: queue.SimpleQueue[None] = queue.SimpleQueue()  # an item of each helper that has ended
        self.context = contextvars.copy_context()

    def finished(self) -> list[Any]:
        """Take part until nothing is left to take, and wait for those who help: what they do would go on otherwise
        beside what the caller does next, be it only to deal with an interruption."""
        try:
            self._work()
            self._wait()
        except BaseException as interruption:  # between tasks, or in waiting: a second one would not be waited for
            self.errors[-1] = interruption  # nothing more begins
            self._wait()
        finally:
            results, errors = self.results, self.errors
            self.tasks, self.results, self.errors = (), [], {}  # a helper that comes late holds on to no array
        if not errors:
            return results
        try:
            raise errors[min(errors)]
        finally:
            del results, errors  # or the error would hold this frame, and the frame the error, and all their arrays

    def _wait(self) -> None:
        with self.lock:
            self.closed = True
        while self.ended < self.begun:
            self.done.get()
            self.ended += 1

    def help(self) -> None:
        """Take part, on a thread of the pool."""
        with self.lock:
            if self.closed:
                return
            self.begun += 1
        try:
            self.context.copy().run(self._work)
        finally:
            self.done.put(None)

    def _work(self) -> None:
        outside, _state.inside = is_inside(), True
        count, tasks = len(self.results), self.tasks
        try:
            while (i := self.take()) < count:
                try:
                    if not self.errors:
                        self.results[i] = tasks[i]()
                except BaseException as error:
                    self.errors[i] = error
        finally:
            _state.inside = outside


def _ask(task: Callable[[], None]) -> None:
    """Give a task to the pool, which grows up to one thread fewer than npora computes with."""
    global _workers
    if _workers < get_num_threads() - 1:
        with _lock:
            while _workers < get_num_threads() - 1:
                try:
                    threading.Thread(target=_serve, name=f"npora-{_workers + 1}", daemon=True).start()
                except RuntimeError:  # the system gives no more of them, and those that there are do all the work
                    break
                _workers += 1
    if _workers:
        _inbox.put(task)


def _serve() -> None:
    while True:
        _inbox.get()()


def _forget() -> None:
    """A child process has none of its parent's threads."""
    global _workers, _inbox, _lock
    _workers, _inbox, _lock = 0, queue.SimpleQueue(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
