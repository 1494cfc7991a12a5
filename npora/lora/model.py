"""Put LoRA on a model: get_peft_model and PeftModel, with PEFT's names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from npora.lora import files
from npora.lora.config import LoraConfig
from npora.lora.inject import check_name, inject
from npora.lora.linear import LoRALinear
from npora.lora.match import target_paths
from npora.lora.saved import ModulesToSaveWrapper
from npora.nn.module import Array, Backward, Module, Parameter

DEFAULT_SEED = 42


class LoraModel(Module):
    """The base model under PEFT's second level of names, `base_model.model.…`."""

    def __init__(self, model: Module) -> None:
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Backward]:
        return self.model(*args, **kwargs)


class PeftModel(Module):
    """A frozen model with LoRA adapters. Build one with `get_peft_model` or `PeftModel.from_pretrained`.

    The base model is changed in place: its target modules become LoRALinear, which hold them as `base_layer`.
    """

    def __init__(self, model: Module, peft_config: LoraConfig, adapter_name: str = "default", seed: int = DEFAULT_SEED):
        if any(isinstance(module, LoRALinear) for module in model.modules()):
            raise ValueError("this model has LoRA layers already: use add_adapter(), or unload() them first")
        target_paths(model, peft_config)  # raises before anything is changed
        self.base_model = LoraModel(model)
        self.peft_config: dict[str, LoraConfig] = {}
        self._origins: dict[str, files.Origin] = {}  # of adapters that were loaded
        self._base_biases: dict[str, Array] = {}  # as they were, by name: those that the adapter trains
        model.requires_grad_(False)
        self.add_adapter(adapter_name, peft_config, seed)
        self.set_adapter(adapter_name)

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Backward]:
        return self.base_model(*args, **kwargs)

    def generate(self, *args: Any, **options: Any) -> Array:
        """The base model's `generate`, with the active adapter. Raises AttributeError where the base has none."""
        base: Any = self.base_model.model
        return np.asarray(base.generate(*args, **options))

    @property
    def config(self) -> Any:
        return getattr(self.base_model.model, "config", None)

    @property
    def active_adapter(self) -> str:
        return self._active_adapter

    def get_base_model(self) -> Module:
        return self.base_model.model

    def lora_layers(self) -> list[tuple[str, LoRALinear]]:
        return [(path, m) for path, m in self.base_model.model.named_modules() if isinstance(m, LoRALinear)]

    def _saved_modules(self) -> list[ModulesToSaveWrapper]:
        return [m for m in self.modules() if isinstance(m, ModulesToSaveWrapper)]

    def add_adapter(self, adapter_name: str, peft_config: LoraConfig, seed: int = DEFAULT_SEED) -> None:
        """Add an adapter, not yet active. Its A's are drawn from `seed` and the module's path, nothing else."""
        check_name(adapter_name)
        if adapter_name in self.peft_config:
            raise ValueError(f"there is an adapter named '{adapter_name}' already")
        if self.peft_config and (peft_config.bias != "none" or self._base_biases):
            raise ValueError("an adapter that trains biases of the base cannot share the model with another adapter")
        model, config = self.base_model.model, peft_config
        inject(model, config, adapter_name, seed)
        if config.base_model_name_or_path is None:
            config.base_model_name_or_path = getattr(model, "name_or_path", None)
        self.peft_config[adapter_name] = config
        self._base_biases.update((name, parameter.data) for name, parameter in self.trained_biases(adapter_name))
        self._requires_grad(adapter_name, False)

    def delete_adapter(self, adapter_name: str) -> None:
        """Forget an adapter. Raises where it is the active one, or there is none of this name."""
        if adapter_name not in self.peft_config:
            raise ValueError(f"there is no adapter '{adapter_name}'; there are: {', '.join(self.peft_config)}")
        if adapter_name == getattr(self, "_active_adapter", None):
            raise ValueError(f"adapter '{adapter_name}' is the active one: set_adapter() another first")
        del self.peft_config[adapter_name]
        self._origins.pop(adapter_name, None)
        for module in self.modules():
            if isinstance(module, LoRALinear | ModulesToSaveWrapper):
                module.delete_adapter(adapter_name)

    def trained_biases(self, adapter_name: str) -> list[tuple[str, Parameter]]:
        """The base's biases that this adapter trains, by their names in the whole model."""
        mode = self.peft_config[adapter_name].bias
        if mode == "none":
            return []
        inside = [path for path, m in self.named_modules() if isinstance(m, ModulesToSaveWrapper)]
        biases = [
            (name, parameter)
            for name, parameter in self.named_parameters()
            if name.endswith(".bias") and not any(name.startswith(path + ".") for path in inside)
        ]
        return biases if mode == "all" else [(n, p) for n, p in biases if n.endswith(".base_layer.bias")]

    def adapter_parameters(self, adapter_name: str) -> dict[str, Parameter]:
        """What belongs to an adapter, under the names of PEFT's files: without the adapter's own name."""
        found = dict(self.trained_biases(adapter_name))
        for path, module in self.named_modules():
            if isinstance(module, LoRALinear) and adapter_name in module.lora_A:
                found[f"{path}.lora_A.weight"] = module.lora_A[adapter_name].weight
                found[f"{path}.lora_B.weight"] = module.lora_B[adapter_name].weight
            elif isinstance(module, ModulesToSaveWrapper) and adapter_name in module.modules_to_save:
                for name, parameter in module.modules_to_save[adapter_name].named_parameters():
                    found[f"{path}.{name}"] = parameter
        return found

    def _requires_grad(self, adapter_name: str, value: bool) -> None:
        for parameter in self.adapter_parameters(adapter_name).values():
            if parameter.requires_grad != value:
                parameter.requires_grad = value

    def set_adapter(self, adapter_name: str) -> None:
        """Make one adapter the active and trainable one. A config of `inference_mode` keeps it frozen."""
        if adapter_name not in self.peft_config:
            raise ValueError(f"there is no adapter '{adapter_name}'; there are: {', '.join(self.peft_config)}")
        for _, layer in self.lora_layers():
            if layer.merged_adapter is not None:
                raise RuntimeError(f"adapter '{layer.merged_adapter}' is merged: call unmerge_adapter() first")
        for name in self.peft_config:
            self._requires_grad(name, name == adapter_name and not self.peft_config[name].inference_mode)
        for module in self.modules():
            if isinstance(module, LoRALinear):
                module.active_adapter = adapter_name if adapter_name in module.lora_A else None
            elif isinstance(module, ModulesToSaveWrapper):
                module.active_adapter = adapter_name
        self._active_adapter = adapter_name

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """How many numbers are trained, and how many there are in all (adapters and copies of heads included)."""
        parameters = list(self.parameters())
        return sum(p.size for p in parameters if p.requires_grad), sum(p.size for p in parameters)

    def print_trainable_parameters(self) -> None:
        trainable, everything = self.get_nb_trainable_parameters()
        print(
            f"trainable params: {trainable:,d} || all params: {everything:,d} || "
            f"trainable%: {100 * trainable / everything:.4f}"
        )

    def merge_adapter(self, safe_merge: bool = False) -> None:
        """Let every target compute with W + s B A as one matrix. W's bytes stay as they are."""
        layers = [layer for _, layer in self.lora_layers() if layer.active_adapter is not None]
        if any(layer.merged_adapter is not None for layer in layers):
            raise RuntimeError("the adapter is merged already: call unmerge_adapter() first")
        for layer in layers:
            layer.merge(safe_merge)

    def unmerge_adapter(self) -> None:
        """Undo merge_adapter, exactly."""
        layers = [layer for _, layer in self.lora_layers() if layer.merged_adapter is not None]
        if not layers:
            raise RuntimeError("no adapter is merged")
        for layer in layers:
            layer.unmerge()

    def merge_and_unload(self, safe_merge: bool = False) -> Module:
        """The base model with the active adapter merged in for good, and without LoRA layers."""
        if not any(layer.merged_adapter is not None for _, layer in self.lora_layers()):
            self.merge_adapter(safe_merge)
        return self._unload(merged=True)

    def unload(self) -> Module:
        """The base model as it was, without its adapters."""
        self._swap_biases(self._base_biases)
        return self._unload(merged=False)

    def _unload(self, merged: bool) -> Module:
        model = self.base_model.model
        for path, module in list(model.named_modules()):
            if isinstance(module, LoRALinear):
                model.set_submodule(path, module.merged_linear() if merged else module.base_layer)
            elif isinstance(module, ModulesToSaveWrapper):
                model.set_submodule(path, module.active_module() if merged else module.original_module)
        return model.requires_grad_(False)

    @contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Within this block the model is its base again, bit for bit: adapters, trained heads and biases are off."""
        switches: list[Any] = [layer for _, layer in self.lora_layers()] + self._saved_modules()
        for module in switches:
            module.disable_adapters = True
        trained = self._swap_biases(self._base_biases)
        try:
            yield
        finally:
            for module in switches:
                module.disable_adapters = False
            self._swap_biases(trained)

    def _swap_biases(self, values: dict[str, Array]) -> dict[str, Array]:
        """Give the biases these values, and return those that they had."""
        parameters = dict(self.named_parameters())
        before = {name: parameters[name].data for name in values}
        for name, value in values.items():
            parameters[name].data = value
        return before

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        """Write each adapter as PEFT does: `default` into the directory, any other into a directory of its name."""
        for name, config in self.peft_config.items():
            directory = os.fspath(save_directory) if name == "default" else os.path.join(save_directory, name)
            origin = self._origins.get(name)
            files.save_adapter(directory, config, self.adapter_parameters(name), self.base_state(), origin)

    def load_adapter(
        self, directory: str | os.PathLike[str], adapter_name: str = "default", is_trainable: bool = False
    ) -> None:
        """Load an adapter's values: into the adapter of this name where there is one, else as a new one.

        Raises
        ------
        ValueError: tensors missing, unexpected or misshapen; another rank, alpha or base: each named. Nothing is then
        changed.
        """
        config = LoraConfig.from_pretrained(directory)
        config.inference_mode = not is_trainable
        files.warn_of_another_base(config, getattr(self.get_base_model(), "name_or_path", None), directory)
        is_new = adapter_name not in self.peft_config
        if is_new:
            self.add_adapter(adapter_name, config)
        try:
            files.check_same(self.peft_config[adapter_name], config, directory)
            parameters, layers = self.adapter_parameters(adapter_name), self.lora_layers()
            below = {f"base_model.model.{path}.base_layer.weight": layer.base_layer.weight for path, layer in layers}
            values = files.read_adapter(directory, config, parameters, self.base_state(), below)
        except BaseException:
            if is_new:
                self.delete_adapter(adapter_name)
            raise
        for parameter, value in values:
            parameter.data = value
        self._origins[adapter_name] = files.Origin.of(directory, self.peft_config[adapter_name], parameters)

    def base_state(self) -> dict[str, Array]:
        """The base's arrays under their plain names, without the modules that an adapter replaces."""
        state = {}
        for name, parameter in self.base_model.model.named_parameters():
            parts = name.split(".")
            if not {"lora_A", "lora_B", "original_module", "modules_to_save"} & set(parts):
                plain = ".".join(part for part in parts if part != "base_layer")
                state[plain] = self._base_biases.get(f"base_model.model.{name}", parameter.data)
        return state

    @classmethod
    def from_pretrained(
        cls,
        model: Module,
        directory: str | os.PathLike[str],
        adapter_name: str = "default",
        is_trainable: bool = False,
    ) -> PeftModel:
        """Load an adapter that npora or PEFT saved onto its base model. Frozen, unless `is_trainable`.

        Raises
        ------
        ValueError: as load_adapter.
        """
        config = LoraConfig.from_pretrained(directory)
        config.inference_mode = not is_trainable
        base_name, config.base_model_name_or_path = config.base_model_name_or_path, None
        peft_model = cls(model, config, adapter_name)
        config.base_model_name_or_path = base_name
        try:
            peft_model.load_adapter(directory, adapter_name, is_trainable)
        except BaseException:
            peft_model.unload()
            raise
        return peft_model


def get_peft_model(
    model: Module, peft_config: LoraConfig, adapter_name: str = "default", seed: int = DEFAULT_SEED
) -> PeftModel:
    """Freeze a model and put an adapter on it, in place. Its initial values come from `seed`."""
    return PeftModel(model, peft_config, adapter_name, seed)
