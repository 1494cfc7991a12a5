"""A model that is evaluated, trained in part, or watched for a while, and is given back as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

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


class Seen(NamedTuple):
    """A module has been called, or its backward.

    path, module : which one; "" is the model itself
    what : "output" or "gradient"
    given, made : what it was called with, and what it returned; of a backward also the grad of its own parameters
    """

    path: str
    module: Module
    what: str
    given: Any
    made: Any


@contextmanager
def watching(model: Module, see: Callable[[Seen], None]) -> Iterator[None]:
    """Within this block see() is told of each call of a module below this model, and of each call of its backward, when
    it returns: of a module within another first.

    It is the instances that call see() meanwhile, so that nothing is slower outside of such a block.
    """
    modules = [(path, module) for path, module in model.named_modules() if "forward" not in vars(module)]
    for path, module in modules:
        vars(module)["forward"] = _watched(path, module, see)
    try:
        yield
    finally:
        for _, module in modules:
            del vars(module)["forward"]


def _watched(path: str, module: Module, see: Callable[[Seen], None]) -> Callable[..., Any]:
    forward = module.forward
    own = [member for _, member in module.named_members() if isinstance(member, Parameter)]

    def watched(*inputs: Any, **keywords: Any) -> Any:
        y, backward = forward(*inputs, **keywords)
        see(Seen(path, module, "output", (inputs, keywords), y))

        def watched_backward(*dy: Any, **options: Any) -> Any:
            dx = backward(*dy, **options)
            see(Seen(path, module, "gradient", dy, (dx, [parameter.grad for parameter in own])))
            return dx

        return y, watched_backward

    return watched
