"""The registry of methods: which one a config means for a layer. Those with a narrower condition stand first."""

from __future__ import annotations

from npora.lora.adapter import Adapter
from npora.lora.config import PeftConfig
from npora.lora.methods.lora import LoRA
from npora.nn.module import Module

METHODS: tuple[type[Adapter], ...] = (LoRA,)


def method_of(config: PeftConfig, base: Module) -> type[Adapter] | None:
    """The method that this config means for this layer; None where it means none."""
    return next((method for method in METHODS if method.fits(config, base)), None)
