"""A block of a `with` that was entered and let go of ends when it is collected: that may be while another begins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from npora.lora import switching
from npora.machine import blas, heap
from npora.nn import evaluating
from tests.tiny import tiny_peft

MODEL = tiny_peft()


@contextmanager
def one_thread() -> Iterator[None]:
    with blas.on_one_thread():
        yield


BLOCKS: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Any]] = {
    "an adapter that is off": (MODEL.disable_adapter, lambda: switching._SWITCHING),
    "a model that is evaluated": (lambda: evaluating.evaluating(MODEL), lambda: evaluating._lock),
    "memory that is kept": (heap.keeping_freed_memory, lambda: heap._lock),
    "one thread of BLAS": (one_thread, lambda: blas._lock),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_thread_that_begins_one_is_not_held_up(name: str) -> None:
    make, lock = BLOCKS[name]
    done: list[bool] = []

    def work() -> None:
        let_go = make()
        let_go.__enter__()
        with lock():  # as where another block begins
            del let_go
        done.append(True)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert done
    assert not MODEL._off and not any(module.disable_adapters for module in MODEL._switches())
