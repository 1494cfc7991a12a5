"""Some parameters of a model that alone have gradients for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from npora.nn.module import Module
from npora.nn.parameter import Parameter


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
