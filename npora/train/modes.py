"""What a model is set to for a while, and given back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from npora.nn import Module, no_grad

_lock = threading.Lock()
_modes: dict[Module, tuple[int, bool]] = {}  # of modules that are evaluated: by how many blocks, and their own mode


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Within this block the model keeps no closures and drops nothing out; after it each module is in its own mode.

    Several threads may evaluate one model: the last block to end gives its modules their modes back.
    """
    modules = list(model.modules())
    with _lock:
        for module in modules:
            blocks, mode = _modes.get(module, (0, module.training))
            _modes[module] = blocks + 1, mode
            module.training = False
    try:
        with no_grad():
            yield
    finally:
        with _lock:
            for module in modules:
                blocks, mode = _modes.pop(module)
                if blocks > 1:
                    _modes[module] = blocks - 1, mode
                else:
                    module.training = mode


@contextmanager
def recomputing(model: Module) -> Iterator[None]:
    """Within this block the model's layers keep their inputs alone, and compute their forward again in backward."""
    modules: list[Any] = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    if not modules:
        raise ValueError("gradient_checkpointing: this model has no layers that recompute")
    before = [module.gradient_checkpointing for module in modules]
    try:
        for module in modules:
            module.gradient_checkpointing = True
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.gradient_checkpointing = value
