"""What a method does with all layers of an adapter at once: its term of the loss, its work after a step, its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from npora.lora.adapter import Adapter
from npora.lora.adapters import Adapters
from npora.lora.config import PeftConfig
from npora.nn.module import Array, Module, Parameter


def penalty(model: Module) -> float:
    """Add to the gradients that of what the active adapter's methods add to the loss once a step; return that term."""
    return sum((method.penalty(config, layers) for method, config, layers in _active(model)), 0.0)


def after_step(model: Module, step: int) -> None:
    """Let the active adapter's methods do their work after the step-th update, before the gradients are let go of."""
    for method, config, layers in _active(model):
        method.after_step(config, layers, step)


def states(model: Module) -> dict[str, Array]:
    """Return what the active adapter's next step depends on beside its tensors, by path and name."""
    layers = [part for _, _, layers in _active(model, frozen=True) for part in layers.items()]
    return {f"{path}:{name}": array for path, adapter in layers for name, array in adapter.state().items()}


def load_states(model: Module, arrays: Mapping[str, Array]) -> None:
    """Give back what `states` found."""
    for _, _, layers in _active(model, frozen=True):
        for path, adapter in layers.items():
            own = {key.removeprefix(f"{path}:"): array for key, array in arrays.items() if key.startswith(f"{path}:")}
            adapter.load_state(own)


def file_form(model: Adapters, adapter_name: str) -> tuple[PeftConfig, dict[str, Parameter]]:
    """Return an adapter's config and parameters as its file has them, under the names of its file."""
    config, found = model.peft_config[adapter_name], model.adapter_parameters(adapter_name)
    written = config
    for method, layers in _groups(model, adapter_name):
        written = method.recorded(written, layers)
        for path, adapter in layers.items():
            found |= adapter.saved(f"base_model.model.{path}", config)
    return written, found


def _active(model: Module, frozen: bool = False) -> Iterator[tuple[type[Adapter], Any, dict[str, Any]]]:
    if isinstance(model, Adapters) and model.active_adapters:
        name = model.active_adapter
        for method, layers in _groups(model, name):
            if frozen or any(part.requires_grad for adapter in layers.values() for part in adapter.parameters()):
                yield method, model.peft_config[name], layers


def _groups(model: Adapters, adapter_name: str) -> Iterator[tuple[type[Adapter], dict[str, Any]]]:
    groups: dict[type[Adapter], dict[str, Any]] = {}
    for path, layer in model.lora_layers():
        if adapter_name in layer.adapters:
            adapter = layer.adapters[adapter_name]
            groups.setdefault(type(adapter), {})[path] = adapter
    yield from groups.items()
