"""A row of the table of layers, and what makes one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npora import nn
from npora.nn.module import Array


def draw(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([len(shape), *shape, seed]).standard_normal(shape)


@dataclass(frozen=True)
class Case:
    """build() makes the layer or function; inputs are its arrays in float64; keywords go with every call."""

    name: str
    build: Callable[[], Any]
    inputs: tuple[Any, ...]
    keywords: dict[str, Any] = field(default_factory=dict)
    row_wise: bool = False  # takes any leading axes, and treats each row alone
    whole_model: bool = False  # too many parameters for differences of each
    frozen_rounds: bool = False  # frozen it computes the same in another order


def randomized(module: nn.Module) -> nn.Module:
    """Every parameter away from the zeros and ones that it starts with, where errors hide."""
    rng = np.random.default_rng(7)
    for parameter in module.parameters():
        parameter.data = (parameter.data + 0.3 * rng.standard_normal(parameter.shape)).astype(parameter.dtype)
    return module


def module(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: randomized(build())


class Outputs(nn.Module):
    """A whole model as a function of its parameters: its loss, or else all that it returns, as one vector."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def forward(self, *inputs: Array, **keywords: Any) -> tuple[Array, Callable[[Array], None]]:
        output, backward = self.model(*inputs, **keywords)
        if getattr(output, "loss", None) is not None:
            return np.asarray(output.loss), backward
        names = ("logits", "last_hidden_state", "pooler_output")
        parts = [getattr(output, name) for name in names if hasattr(output, name)]
        ends = np.cumsum([part.size for part in parts])[:-1]

        def back_parts(dy: Array) -> None:
            backward(*(d.reshape(part.shape) for d, part in zip(np.split(dy, ends), parts, strict=True)))

        return np.concatenate([part.ravel() for part in parts]), back_parts
