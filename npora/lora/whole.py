"""What a method does with all layers of an adapter at once: its term of the loss, its work after a step, its file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from npora.lora.adapter import Adapter
from npora.lora.adapters import Adapters
from npora.lora.config import PeftConfig
from npora.nn.module import Array, Module, Parameter


def penalty(model: Module) -> float:
    """Add to the gradients that of what the active adapters' methods add to the loss once a step; return that term."""
    return sum((method.penalty(_config(model, name), layers) for name, method, layers in _active(model)), 0.0)


def after_step(model: Module, step: int) -> None:
    """Let the active adapters' methods do their work after the step-th update, before the gradients are let go of."""
    for name, method, layers in _active(model):
        method.after_step(_config(model, name), layers, step)


def states(model: Module) -> dict[str, Array]:
    """Return what the active adapters' next step depends on beside their tensors, by adapter, path and name."""
    found: dict[str, Array] = {}
    for adapter_name, _, layers in _active(model, frozen=True):
        for path, adapter in layers.items():
            found |= {f"{adapter_name}:{path}:{name}": array for name, array in adapter.state().items()}
    return found


def load_states(model: Module, arrays: Mapping[str, Array]) -> None:
    """Give back what `states` found."""
    for adapter_name, _, layers in _active(model, frozen=True):
        for path, adapter in layers.items():
            start = f"{adapter_name}:{path}:"
            adapter.load_state({key[len(start) :]: array for key, array in arrays.items() if key.startswith(start)})


def file_form(model: Adapters, adapter_name: str) -> tuple[PeftConfig, dict[str, Parameter]]:
    """Return an adapter's config and parameters as its file has them, under the names of its file."""
    config, found = model.peft_config[adapter_name], model.adapter_parameters(adapter_name)
    written = config
    for method, layers in _groups(model, adapter_name):
        written = method.recorded(written, layers)
        for path, adapter in layers.items():
            found |= adapter.saved(f"base_model.model.{path}", config)
    return written, found


def live_form(model: Adapters, adapter_name: str, config: PeftConfig, tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Return a file's tensors, whose config this is, as an adapter that is there has them: file_form the other way."""
    found = dict(tensors)
    for _, layers in _groups(model, adapter_name):
        for path, adapter in layers.items():
            found |= adapter.live(f"base_model.model.{path}", config, tensors)
    return found


def loaded(model: Adapters, adapter_name: str, config: PeftConfig) -> None:
    """Tell an adapter that its tensors are now those of a file, whose config this is."""
    for _, layers in _groups(model, adapter_name):
        for path, adapter in layers.items():
            adapter.loaded(f"base_model.model.{path}", config)


def _active(model: Module, frozen: bool = False) -> Iterator[tuple[str, type[Adapter], dict[str, Any]]]:
    if not isinstance(model, Adapters):
        return
    for name in model.active_adapters:
        for method, layers in _groups(model, name):
            if frozen or any(part.requires_grad for adapter in layers.values() for part in adapter.parameters()):
                yield name, method, layers


def _config(model: Any, adapter_name: str) -> Any:
    return model.peft_config[adapter_name]


def _groups(model: Adapters, adapter_name: str) -> Iterator[tuple[type[Adapter], dict[str, Any]]]:
    groups: dict[type[Adapter], dict[str, Any]] = {}
    for path, layer in model.lora_layers():
        if adapter_name in layer.adapters:
            adapter = layer.adapters[adapter_name]
            groups.setdefault(type(adapter), {})[path] = adapter
    yield from groups.items()
