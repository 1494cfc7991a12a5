"""The layer under test as a function of named float64 arrays."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from npora.nn.module import Array, Module, Parameter


class Subject:
    """A layer as a function of its floating-point inputs and its trainable parameters: `point`, by name.

    The layer is a copy. It sees read-only arrays, and of every Generator a fresh copy at each call.
    """

    def __init__(self, layer: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.layer = copy.deepcopy(layer) if isinstance(layer, Module) else layer
        self.inputs, self.keywords = inputs, keywords
        self.places = {f"input {i}": i for i, value in enumerate(inputs) if _is_real(value)}
        self.point: dict[str, Array] = {name: np.array(inputs[i], np.float64) for name, i in self.places.items()}
        self.parameters: dict[str, Parameter] = {}
        self.frozen: dict[str, tuple[Parameter, bytes]] = {}
        if isinstance(self.layer, Module):
            for name, parameter in self.layer.named_parameters():
                parameter.data = parameter.data.astype(np.float64)
                parameter.grad = None
                if parameter.requires_grad:
                    self.parameters[name] = parameter
                    self.point[name] = parameter.data
                else:
                    self.frozen[name] = (parameter, parameter.data.tobytes())

    def call(self, point: dict[str, Array]) -> tuple[Array, Callable[[Array], Any]]:
        inputs = list(self.inputs)
        for name, place in self.places.items():
            inputs[place] = read_only(point[name])
        for name, parameter in self.parameters.items():
            parameter.data = read_only(point[name])
        keywords = {key: copy.deepcopy(value) for key, value in self.keywords.items()}
        y, backward = self.layer(*inputs, **keywords)
        return np.asarray(y), backward

    def gradients(self, backward: Callable[[Array], Any], dy: Array) -> dict[str, Array]:
        """What backward returns and accumulates, by name.

        Raises ValueError where the number of gradients is wrong, or a frozen parameter was changed or given one.
        """
        returned = backward(dy)
        inputs = [g for g in (returned if isinstance(returned, tuple) else (returned,)) if g is not None]
        if len(inputs) != len(self.places):
            raise ValueError(f"backward returned {len(inputs)} gradients for {len(self.places)} floating-point inputs")
        gradients = {name: np.asarray(gradient) for name, gradient in zip(self.places, inputs, strict=True)}
        for name, parameter in self.parameters.items():
            gradients[name] = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad
        for name, (parameter, before) in self.frozen.items():
            if parameter.grad is not None or parameter.data.tobytes() != before:
                raise ValueError(f"the frozen parameter {name} was changed, or given a gradient")
        return gradients


def _is_real(value: Any) -> bool:
    return isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)


def read_only(x: Array) -> Array:
    x = np.array(x)
    x.flags.writeable = False
    return x
