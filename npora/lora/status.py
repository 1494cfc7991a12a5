"""What state a model's adapters are in, under PEFT's names and in words."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from npora.lora.adapted import Adapted
from npora.lora.adapters import Adapters
from npora.lora.saved import ModulesToSaveWrapper
from npora.machine.stored import Stored, form_of
from npora.nn.module import Parameter

Irregular = Literal["irregular"]


@dataclass(frozen=True)
class TunerLayerStatus:
    """How the adapters of one layer stand; str() says it in a line.

    name : its path below `base_model`
    module_type : such as "lora.Linear", or "ModulesToSaveWrapper" of a module that is trained whole
    requires_grad : of each adapter here: True, False, or "irregular" where its tensors differ
    quantization_backend : the form in which its matrix is stored, where that is none of plain floats
    """

    name: str
    module_type: str
    enabled: bool
    active_adapters: list[str]
    merged_adapters: list[str]
    requires_grad: dict[str, bool | Irregular]
    available_adapters: list[str]
    devices: dict[str, list[str]]
    quantization_backend: str | None

    def __str__(self) -> str:
        adapters = ", ".join(_said(self, name) for name in self.available_adapters)
        return f"{self.name}, a {self.module_type}{'' if self.enabled else ', switched off'}: {adapters}"


@dataclass(frozen=True)
class TunerModelStatus:
    """How the adapters of a model stand; str() says it in sentences. "irregular" means that layers differ.

    peft_types : the method of each adapter
    trainable_params, total_params : as get_nb_trainable_parameters counts them
    num_adapter_layers : of layers with adapters and modules that are trained whole
    """

    base_model_type: str
    adapter_model_type: str
    peft_types: dict[str, str]
    trainable_params: int
    total_params: int
    num_adapter_layers: int
    enabled: bool | Irregular
    active_adapters: list[str] | Irregular
    merged_adapters: list[str] | Irregular
    requires_grad: dict[str, bool | Irregular]
    available_adapters: list[str]
    devices: dict[str, list[str]]
    quantization_backend: str | None

    def __str__(self) -> str:
        state = {True: "on", False: "switched off", "irregular": "on in some layers and off in others"}[self.enabled]
        lines = [
            f"A {self.base_model_type} with adapters on {self.num_adapter_layers} of its modules, {state}.",
            *(f"{name} ({self.peft_types[name]}): {_said(self, name).removeprefix(name + ' is ')}."
              for name in self.available_adapters),
            f"{self.trainable_params:,} of {self.total_params:,} numbers are trained.",
        ]  # fmt: skip
        if self.active_adapters == "irregular":
            lines.append("Which adapters are active differs between layers: call set_adapter().")
        if self.merged_adapters == "irregular":
            lines.append("An adapter is merged in some of its layers alone: call unmerge_adapter().")
        return "\n".join(lines)


def _said(status: TunerLayerStatus | TunerModelStatus, name: str) -> str:
    parts = ["active" if name in status.active_adapters else "inactive"]
    if name in status.merged_adapters:
        parts.append("merged")
    trained = {True: "trainable", False: "frozen", "irregular": "trainable in part"}
    return f"{name} is {', '.join([*parts, trained[status.requires_grad[name]]])}"


def get_layer_status(model: Adapters) -> list[TunerLayerStatus]:
    """Say how each layer's adapters stand. Raises TypeError for no PeftModel, ValueError for one that was unloaded."""
    if not isinstance(model, Adapters):
        raise TypeError(f"the status of adapters is that of a PeftModel; got a {type(model).__name__}")
    found = [
        _of_layer(f"model.{path}", module, model.active_adapters)
        for path, module in model.base_model.model.named_modules()
        if isinstance(module, Adapted | ModulesToSaveWrapper)
    ]
    if not found:
        raise ValueError("this model has no adapter any more: it was unloaded")
    return found


def _of_layer(name: str, module: Adapted | ModulesToSaveWrapper, active: list[str]) -> TunerLayerStatus:
    parameters: dict[str, list[Parameter]]
    stored = None
    if isinstance(module, Adapted):
        parameters = {
            name: [part for tensor, part in adapter.named() if tensor.trained]
            for name, adapter in module.adapters.items()
        }
        is_regular, merged = module.active_adapters == module.on_this_layer(active), module.merged_adapters
        own = module.active_adapters
        kinds = dict.fromkeys(type(adapter).config_class.peft_type.lower() for adapter in module.adapters.values())
        kind = f"{'+'.join(kinds)}.{type(module.base_layer).__name__}"
        weight: Any = module.base_layer.weight.data
        stored = form_of(weight) if isinstance(weight, Stored) else None
    else:
        parameters = {name: list(copy.parameters()) for name, copy in module.modules_to_save.items()}
        here = [name for name in active if name in parameters]
        own = [] if module.active_adapter not in parameters else [str(module.active_adapter)]
        is_regular, merged, kind = own == here, [], type(module).__name__
    return TunerLayerStatus(
        name, kind, not module.disable_adapters, list(active) if is_regular else own, merged,
        {name: _all_or_none(part.requires_grad for part in parts) for name, parts in parameters.items()},
        sorted(parameters), {name: ["cpu"] for name in parameters}, stored,
    )  # fmt: skip


def get_model_status(model: Adapters) -> TunerModelStatus:
    """Say how a model's adapters stand, and where its layers do not agree. Raises as get_layer_status does."""
    layers = get_layer_status(model)
    names = sorted(model.peft_config)
    trained, everything = model.get_nb_trainable_parameters()
    merged = sorted({name for layer in layers for name in layer.merged_adapters})
    halves = [
        layer for layer in layers
        if layer.module_type != "ModulesToSaveWrapper" and
        set(merged) & (set(layer.available_adapters) - set(layer.merged_adapters))
    ]  # fmt: skip
    active = {tuple(layer.active_adapters) for layer in layers}
    forms = {layer.quantization_backend for layer in layers} - {None}
    return TunerModelStatus(
        type(model.get_base_model()).__name__, type(model.base_model).__name__,
        {name: config.peft_type for name, config in model.peft_config.items()}, trained, everything, len(layers),
        _all_or_none(layer.enabled for layer in layers),
        list(active.pop()) if len(active) == 1 else "irregular",
        "irregular" if halves else merged,
        {name: _agreed([each.requires_grad[name] for each in layers if name in each.requires_grad]) for name in names},
        names, {name: ["cpu"] for name in names}, ", ".join(sorted(map(str, forms))) or None,
    )  # fmt: skip


def _all_or_none(values: Iterable[bool]) -> bool | Irregular:
    return _agreed(list(values))


def _agreed(values: Collection[bool | Irregular]) -> bool | Irregular:
    if all(value is True for value in values):
        return True
    return "irregular" if any(value is not False for value in values) else False
