"""What every module of a model gives, forward and backward, shown to a function while it is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from npora.nn.module import Module, Parameter


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
