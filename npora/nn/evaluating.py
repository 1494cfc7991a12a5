"""A model that is evaluated for a while, and is given back as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from npora.nn.grad_mode import no_grad
from npora.nn.module import Module

_lock = threading.RLock()  # a block that was let go of ends when it is collected, maybe within another's
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
