"""One row for each method: a config of its own sizes, for the tests that hold for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npora.lora import LoraConfig, PeftConfig
from npora.lora.adapted import Adapted
from npora.lora.adapter import Adapter
from npora.lora.inject import PlainView, make_shared
from npora.lora.methods import method_of
from npora.nn import Conv1D, Linear, Module
from npora.nn.module import Array


@dataclass(frozen=True)
class Method:
    """A config, and the path of the layer that it is tried on, for what depends on it."""

    name: str
    config: PeftConfig
    path: str = "dense"
    tolerances: dict[str, Any] = field(default_factory=dict)


METHODS = [
    Method("LoRA", LoraConfig(r=3, lora_alpha=7)),
    Method("rank-stabilised LoRA", LoraConfig(r=2, lora_alpha=5, use_rslora=True)),
    Method("DoRA", LoraConfig(r=3, lora_alpha=7, use_dora=True)),
    Method("LoRA with patterns", LoraConfig(r=2, rank_pattern={"dense": 4}, alpha_pattern={"dense": 3})),
]


class Held(Module):
    def __init__(self, layer: Linear) -> None:
        self.dense = layer

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> Any:
        return self.dense(x, rng)


def adapted(case: Method, i: int, o: int, seed: int = 0, *, conv: bool = False, bias: bool = True) -> Adapted:
    """A layer with the case's adapter on it, switched on, every tensor of it drawn anew, in float64."""
    rng = np.random.default_rng(seed)
    base = (Conv1D if conv else Linear)(i, o, bias, rng=rng, dtype=np.float64)
    if base.bias is not None:
        base.bias.data = rng.standard_normal(o)
    layer = Adapted(base)
    layer.adapters["default"] = adapter_of(case, base, rng)
    layer.active_adapter = "default"
    for parameter in adapter_of_layer(layer).parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data + 0.5 * rng.standard_normal(parameter.shape)
    return layer


def adapter_of(case: Method, base: Linear, rng: np.random.Generator) -> Adapter:
    method = method_of(case.config, base)
    assert method is not None
    shared = make_shared(PlainView(Held(base)), case.config, ["dense"])
    return method(base, case.config, rng, case.path, shared)


def adapter_of_layer(layer: Adapted) -> Adapter:
    return layer.adapters["default"]
