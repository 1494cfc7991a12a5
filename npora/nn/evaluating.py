"""A model that is evaluated, or trained in part, for a while, and is given back as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from npora.nn.grad_mode import no_grad
from npora.nn.module import Module, Parameter

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


@contextmanager
def trained_alone(model: Module, parameters: Iterable[Parameter]) -> Iterator[None]:
    """Within this block gradients are computed for these parameters of a model alone, be they frozen or not; after it
    each is as it was. No array is copied, and a frozen one stays read-only: this is for gradients, not for steps."""
    chosen = {id(parameter) for parameter in parameters}
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for parameter, _ in before:
        parameter._requires_grad = id(parameter) in chosen
    try:
        yield
    finally:
        for parameter, was in before:
            parameter._requires_grad = was
