"""What a model is set to for a while, and given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from npora.nn import Module


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
