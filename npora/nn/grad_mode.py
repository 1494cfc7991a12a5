"""The settings of a thread: whether there are gradients, how often backward runs, and where gradients are added up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt

Gradients = dict[Any, npt.NDArray[Any]]  # by parameter
_state = threading.local()


def is_grad_enabled() -> bool:
    return getattr(_state, "grad_enabled", True)


@contextmanager
def no_grad() -> Iterator[None]:
    """Within this block (in this thread) layers drop their closures at once, so inference holds no activations."""
    before = is_grad_enabled()
    _state.grad_enabled = False
    try:
        yield
    finally:
        _state.grad_enabled = before


def is_backward_once() -> bool:
    return getattr(_state, "backward_once", False)


@contextmanager
def backward_once() -> Iterator[None]:
    """Within this block (in this thread) a stack's backward frees each layer's closure as soon as that has run.

    So memory shrinks as backward goes. It runs once: after that the stack's backward raises RuntimeError. Elsewhere a
    pullback is a function like any other, and may be called once for each upstream gradient.
    """
    before = is_backward_once()
    _state.backward_once = True
    try:
        yield
    finally:
        _state.backward_once = before


def gradients_of_this_thread() -> Gradients | None:
    """Where gradients are added up within gradients_apart(); None outside, where each parameter has its own."""
    return getattr(_state, "gradients", None)


@contextmanager
def gradients_apart() -> Iterator[Gradients]:
    """Within this block (in this thread) gradients are added up in the dict that it gives, and in no parameter's grad.

    So several threads may run backward at a time, over parameters that they share.
    """
    before = gradients_of_this_thread()
    _state.gradients = {}
    try:
        yield _state.gradients
    finally:
        _state.gradients = before
