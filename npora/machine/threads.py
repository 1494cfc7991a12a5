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
    """How many threads npora computes with: set_num_threads's number, else as many as BLAS would take, else 1."""
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
    """Whether the code that asks is part of work that was cut into several pieces already."""
    return getattr(_state, "inside", False)


def in_parallel(tasks: Sequence[Callable[[], _Result]]) -> list[_Result]:
    """What the calls return, in their order. They begin in that order, as many at a time as there are threads, and BLAS
    has one thread meanwhile.

    A single task, and the tasks of work that is inside other work, run on the caller's thread. Each call sees the
    caller's context variables, of which NumPy's errstate is one. Where calls raise, those that have not begun do not
    begin, and the first one's error is raised here.
    """
    with on_one_thread():
        if len(tasks) < 2:
            return [task() for task in tasks]
        helpers = 0 if is_inside() else min(get_num_threads(), len(tasks)) - 1
        shared = _Shared(tasks)
        for _ in range(helpers):
            _ask(shared.help)
        return shared.finished()


class _Shared:
    """Tasks that several threads take from, one after another."""

    def __init__(self, tasks: Sequence[Callable[[], Any]]) -> None:
        self.tasks: Sequence[Callable[[], Any]] = tasks
        self.results: list[Any] = [None] * len(tasks)
        self.errors: dict[int, BaseException] = {}
        self.take = itertools.count().__next__  # one call of C, which no thread interrupts
        self.done: queue.SimpleQueue[None] = queue.SimpleQueue()  # an item for each task that a helper has finished
        self.context = contextvars.copy_context()

    def finished(self) -> list[Any]:
        """Take part until nothing is left to take, and wait for what others have taken."""
        try:
            mine = self._work()
            for _ in range(len(self.results) - mine):
                self.done.get()
        except BaseException as interruption:
            self.errors[0] = interruption  # nothing more begins
            raise
        finally:
            self.tasks = ()  # a helper that comes late holds on to no array
        if self.errors:
            raise self.errors[min(self.errors)]
        return self.results

    def help(self) -> None:
        """What a thread of the pool does."""
        self.context.copy().run(self._work, self.done)

    def _work(self, done: queue.SimpleQueue[None] | None = None) -> int:
        outside, _state.inside = is_inside(), True
        number, count, tasks = 0, len(self.results), self.tasks
        try:
            while (i := self.take()) < count:
                number += 1
                try:
                    if not self.errors:
                        self.results[i] = tasks[i]()
                except BaseException as error:
                    self.errors[i] = error
                if done is not None:
                    done.put(None)
        finally:
            _state.inside = outside
        return number


def _ask(task: Callable[[], None]) -> None:
    """Have the pool do it, which grows up to one thread fewer than npora computes with."""
    global _workers
    if _workers < get_num_threads() - 1:
        with _lock:
            while _workers < get_num_threads() - 1:
                _workers += 1
                threading.Thread(target=_serve, name=f"npora-{_workers}", daemon=True).start()
    _inbox.put(task)


def _serve() -> None:
    while True:
        _inbox.get()()


def _forget() -> None:
    """In a child process there is none of the parent's threads."""
    global _workers, _inbox, _lock
    _workers, _inbox, _lock = 0, queue.SimpleQueue(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
