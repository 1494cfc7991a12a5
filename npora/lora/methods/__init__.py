"""The registry of methods: which one a config means for a layer. Those with a narrower condition stand first."""

from __future__ import annotations

from npora.lora.adapter import Adapter
from npora.lora.config import PeftConfig
from npora.lora.methods.dora import DoRA
from npora.lora.methods.lora import LoRA
from npora.nn.module import Module

METHODS: tuple[type[Adapter], ...] = (DoRA, LoRA)


def method_of(config: PeftConfig, base: Module) -> type[Adapter] | None:
    """The method that this config means for this layer; None where it means none."""
    return next((method for method in METHODS if method.fits(config, base)), None)


def methods_of(config: PeftConfig) -> list[type[Adapter]]:
    """The methods that this kind of config can mean."""
    return [method for method in METHODS if method.config_class is type(config)]


def adaptable(config: PeftConfig) -> list[str]:
    """The kinds of layers that an adapter of this config can go on, by their classes' names."""
    return list(dict.fromkeys(kind.__name__ for method in methods_of(config) for kind in method.adapts))
