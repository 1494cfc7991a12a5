"""Another adapter under the same name, at once: PEFT's `hotswap_adapter`."""

from __future__ import annotations

import os
from typing import Any

from npora.lora.adapted import Adapted
from npora.lora.keywords import refuse_others
from npora.lora.model import PeftModel
from npora.lora.saved import ModulesToSaveWrapper
from npora.nn.module import Parameter

_WHERE = ("revision", "cache_dir", "local_files_only", "subfolder")


def hotswap_adapter(
    model: PeftModel,
    model_name_or_path: str | os.PathLike[str],
    adapter_name: str,
    torch_device: str | None = None,
    **where: Any,
) -> None:
    """Put what lies in a directory in the place of an adapter, which keeps its name, its place among the active ones,
    and whether it is trained. It may be of another rank, scale, method or on other layers. A tensor with the name of
    one before it is the same parameter: an optimiser trains it still. One that has kept something of another shape says
    so at its next step; for that, and for tensors with new names, a new one is made afterwards.

    where : revision, cache_dir, local_files_only, subfolder

    Raises
    ------
    As load_adapter; RuntimeError where the adapter is merged, ValueError where it trains biases of the base, or where
    another active adapter trains the same module whole, or has a layer that one of the two replaces. Nothing is then
    changed.
    """
    idle = {key: value for key, value in where.items() if key not in _WHERE}
    refuse_others("hotswap_adapter", {"torch_device": torch_device, **idle}, _WHERE, ("torch_device",))
    model._refuse_unknown(adapter_name)
    model._refuse_merged("hotswap_adapter()", adapter_name)
    trained = any(parameter.requires_grad for parameter in model.adapter_parameters(adapter_name).values())
    is_trainable = not model.peft_config[adapter_name].inference_mode
    new, order, active = f"{adapter_name}-new", list(model.peft_config), model.active_adapters
    while new in order:
        new += "-"
    model.load_adapter(model_name_or_path, new, is_trainable, **{key: where[key] for key in _WHERE if key in where})
    others = [name for name in active if name != adapter_name]
    shared = {path: name for name in others for path in model._saved_paths(name)}
    if clash := [path for path in model._saved_paths(new) if path in shared and adapter_name in active]:
        model.delete_adapter(new)
        raise ValueError(f"the adapter trains {clash[0]} whole, and so does '{shared[clash[0]]}', which is active too")
    try:
        for _, layer in model.lora_layers() if adapter_name in active else ():
            layer.check_that_none_replaces(layer.on_this_layer([*others, new]))
    except ValueError:
        model.delete_adapter(new)
        raise
    _keep_parameters(model, adapter_name, new)
    model._active = others
    model.delete_adapter(adapter_name)
    model.rename_adapter(new, adapter_name)
    model._requires_grad(adapter_name, trained)
    model.peft_config, model._active = {name: model.peft_config[name] for name in order}, active
    for module in model._switches():
        if isinstance(module, Adapted):
            module.active_adapters = module.on_this_layer(active)
        else:
            module.active_adapter = next((name for name in active if name in module.modules_to_save), None)


def _keep_parameters(model: PeftModel, old: str, new: str) -> None:
    """Give the new adapter's values to the old one's parameters of the same names, and these to the new one."""
    for _, layer in model.lora_layers():
        if {old, new} <= layer.adapters.keys():
            mine, theirs = layer.adapters[old], layer.adapters[new]
            by_name = {tensor.live: parameter for tensor, parameter in mine.named()}
            for attribute, tensor in theirs.tensors.items():
                one, other = by_name.get(tensor.live), getattr(theirs, attribute)
                if not tensor.shared and one is not None and other is not None:
                    setattr(theirs, attribute, _with_values(one, other))
    for module in model._switches():
        if isinstance(module, ModulesToSaveWrapper) and {old, new} <= module.modules_to_save.keys():
            whole, other_whole = (module.modules_to_save[name] for name in (old, new))
            for one, other in zip(whole.parameters(), other_whole.parameters(), strict=True):
                _with_values(one, other)
            module.modules_to_save[new] = whole


def _with_values(one: Parameter, other: Parameter) -> Parameter:
    one.data, one.grad = other.data.copy(), None
    return one
