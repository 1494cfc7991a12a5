"""The settings of a thread: whether there are gradients, how often backward runs, where gradients are added up, which
values are held, whether rows are computed that nobody reads, and who is told which rows form which sequence."""

from __future__ import annotations

import itertools
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy.typing as npt

Values = dict[tuple[str, int], npt.NDArray[Any]]  # held, by name and number
Gradients = dict[Any, npt.NDArray[Any]]  # by parameter


class _Settings(threading.local):
    """Each thread has its own; what stands here holds until a block says otherwise."""

    grad_enabled = True
    backward_once = False
    gradients: Gradients | None = None
    replay: Callable[[str, Callable[[], Any]], Any] | None = None  # of held values
    every_row = False  # a model computes all of its rows, and takes those that are read from them
    packing_made: Callable[[Any], None] | None = None  # is told of each Packing


this_thread = _Settings()


@contextmanager
def within(**settings: Any) -> Iterator[None]:
    """Within this block (in this thread) these settings hold, and after it those that held before."""
    before = {name: getattr(this_thread, name) for name in settings}
    vars(this_thread).update(settings)
    try:
        yield
    finally:
        vars(this_thread).update(before)


def is_grad_enabled() -> bool:
    return this_thread.grad_enabled


@contextmanager
def no_grad() -> Iterator[None]:
    """Within this block (in this thread) layers drop their closures at once, so inference holds no activations."""
    with within(grad_enabled=False):
        yield


@contextmanager
def backward_once() -> Iterator[None]:
    """Within this block (in this thread) a stack's backward frees each layer's closure as soon as that has run.

    So memory shrinks as backward goes. It runs once: after that the stack's backward raises RuntimeError. Elsewhere a
    pullback is a function like any other, and may be called once for each upstream gradient.
    """
    with within(backward_once=True):
        yield


@contextmanager
def gradients_apart() -> Iterator[Gradients]:
    """Within this block (in this thread) gradients are added up in the dict that it gives, and in no parameter's grad.

    So several threads may run backward at a time, over parameters that they share.
    """
    gradients: Gradients = {}
    with within(gradients=gradients):
        yield gradients


def held(name: str, f: Callable[..., npt.NDArray[Any]], *args: Any) -> npt.NDArray[Any]:
    """Return f(*args), which the pullback treats as a constant: what f depends on gets no gradient through it.

    Such a pullback is the derivative of forward with this value held where it is, and of nothing else. A check, which
    evaluates forward around a point, therefore does so within `holding`: what it tests is then what is claimed.

    f draws no random numbers: where the value is replayed it is not called.
    """
    return f(*args) if this_thread.replay is None else this_thread.replay(name, partial(f, *args))


@contextmanager
def holding(values: Values, dtype: npt.DTypeLike) -> Iterator[None]:
    """Within this block (in this thread), which holds one forward, held values are those in `values`, in this dtype.

    Each stands there under its name and its number among those of that name. The first forward, at the point itself,
    puts it there; after a clear() of `values` the next forward does. A block within another one asks that one first.
    """
    asked: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
    outer = this_thread.replay

    def replay(name: str, f: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        key = name, next(asked[name])
        if key not in values:
            values[key] = f() if outer is None else outer(name, f)
        return values[key].astype(dtype, copy=False)

    with within(replay=replay):
        yield
