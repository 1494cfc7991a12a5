"""The configs of the catalogue, each on a layer with biases, for the tests that hold for all methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npora.catalogue import adapters
from npora.lora import PeftConfig
from npora.lora.adapted import Adapted
from npora.lora.adapter import Adapter
from npora.lora.inject import adapted_layer
from npora.nn import Conv1D, Linear


@dataclass(frozen=True)
class Method:
    """A config, and the path of the layer that it is tried on, for what depends on it."""

    name: str
    config: PeftConfig
    path: str = "dense"
    tolerances: dict[str, Any] = field(default_factory=dict)


METHODS = [Method(name, config) for name, config in adapters.CONFIGS.items() if adapters.goes_on(config, Linear)]


def adapted(
    case: Method, i: int, o: int, seed: int = 0, *, conv: bool = False, bias: bool = True, dtype: Any = np.float64
) -> Adapted:
    """A layer with the case's adapter on it, switched on, every tensor of it drawn anew."""
    rng = np.random.default_rng(seed)
    o = adapters.outputs(case.config, o)
    base = (Conv1D if conv else Linear)(i, o, bias, rng=rng, dtype=dtype)
    if base.bias is not None:
        base.bias.data = rng.standard_normal(o).astype(dtype)
    layer = adapted_layer(base, case.config, rng, case.path)
    for parameter in adapter_of_layer(layer).parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.5 * rng.standard_normal(parameter.shape).astype(dtype)
    return layer


def goes_on(case: Method, kind: type[Linear]) -> bool:
    return adapters.goes_on(case.config, kind)


def drops(case: Method) -> bool:
    """Whether a config can ask the case's method for dropout."""
    return adapters.drops(case.config)


def adapter_of(case: Method, base: Linear, rng: np.random.Generator) -> Adapter:
    return adapter_of_layer(adapted_layer(base, case.config, rng, case.path))


def adapter_of_layer(layer: Adapted) -> Adapter:
    return layer.adapters["default"]
