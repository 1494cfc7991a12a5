"""Adapters merged into the layers that they are on, for a while or for good."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from npora.lora.adapted import Adapted
from npora.lora.saved import ModulesToSaveWrapper
from npora.lora.switching import Switching
from npora.nn.module import Module


class Merging(Switching):
    """This is a base with its adapters by name, which can be merged into its layers."""

    def merge_adapter(self, adapter_names: Sequence[str] | None = None, safe_merge: bool = False) -> None:
        """Let every target compute with what its adapter makes of W, as one matrix. W's bytes stay as they are.

        adapter_names : which adapters' matrices are added, in this order; the active ones', unless named. Trained
            copies of modules stay the active adapter's, as in PEFT
        safe_merge : merge none where a result is not finite
        """
        self._check_names(adapter_names)
        if merged := self._merged_adapters():
            raise RuntimeError(f"adapter '{merged[0]}' is merged already: call unmerge_adapter() first")
        layers = [layer for _, layer in self.lora_layers() if layer.on_this_layer(adapter_names)]
        try:
            for layer in layers:
                layer.merge(safe_merge, adapter_names)
        except BaseException:
            for layer in layers:
                if layer.merged_adapters:
                    layer.unmerge()
            raise

    def _check_names(self, adapter_names: Sequence[str] | None) -> None:
        if isinstance(adapter_names, bool | str):
            raise TypeError(f"adapter_names must be a list of names; got {adapter_names!r}")
        for name in adapter_names or ():
            self._refuse_unknown(name)

    def unmerge_adapter(self) -> None:
        """Undo merge_adapter, exactly."""
        layers = [layer for _, layer in self.lora_layers() if layer.merged_adapters]
        if not layers:
            raise RuntimeError("no adapter is merged")
        for layer in layers:
            layer.unmerge()

    def merge_and_unload(
        self, progressbar: bool = False, safe_merge: bool = False, adapter_names: Sequence[str] | None = None
    ) -> Module:
        """Return the base model with adapters merged in for good, and without their layers; all of it is frozen.

        adapter_names : as of merge_adapter; what is merged already stays so, and comes before them
        safe_merge : raise ValueError where a result is not finite, be it merged already

        Whatever is raised, nothing is then changed.
        """
        self._check_names(adapter_names)
        plain: dict[str, Module] = {}
        for path, module in self.base_model.model.named_modules():
            if isinstance(module, Adapted):
                plain[path] = module.merged_linear(safe_merge, adapter_names)
            elif isinstance(module, ModulesToSaveWrapper):
                plain[path] = module.trained_module()
        self._keep_tied(plain)
        self._biases.switch_on()
        self._biases.let_go()
        return self._unload(plain)

    def _keep_tied(self, plain: dict[str, Module]) -> None:
        """Let layers whose base has one matrix have one still, where the same was made of it."""
        first: dict[int, Any] = {}
        for path, layer in self.lora_layers():
            found: Any = plain[path]
            one = first.setdefault(id(layer.base_layer.weight), found)
            if one is not found and np.array_equal(one.weight.data, found.weight.data):
                found.weight = one.weight

    def unload(self) -> Module:
        """Return the base model as it was, without its adapters; all of it is frozen, as in PEFT."""
        plain: dict[str, Module] = {}
        for path, module in self.base_model.model.named_modules():
            if isinstance(module, Adapted):
                plain[path] = module.base_layer
            elif isinstance(module, ModulesToSaveWrapper):
                plain[path] = module.original_module
        self._biases.give_back()
        return self._unload(plain)

    def _unload(self, plain: dict[str, Module]) -> Module:
        """Put these modules in the places of those that hold them."""
        model = self.base_model.model
        for path, module in plain.items():
            model.set_submodule(path, module)
        self.peft_config, self._notes, self._origins, self._active = {}, {}, {}, []
        self.base_model.shared.clear()
        return model.requires_grad_(False)
