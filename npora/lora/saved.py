"""A module that an adapter trains as a whole copy: PEFT's `modules_to_save`."""

from __future__ import annotations

import copy
from typing import Any

from npora.lora import by_rows
from npora.lora.mixed import acting
from npora.lora.names import renamed
from npora.nn.module import Backward, Module


class ModulesToSaveWrapper(Module):
    """This holds the frozen `original_module` and a trained copy of it for each adapter, and calls the active one's."""

    def __init__(self, original_module: Module, adapter_name: str) -> None:
        self.original_module = original_module
        self.modules_to_save: dict[str, Module] = {}
        self.active_adapter: str | None = adapter_name
        self.disable_adapters = False
        self.add_adapter(adapter_name)
        original_module.requires_grad_(False)

    def add_adapter(self, name: str) -> None:
        duplicate = copy.deepcopy(self.original_module)
        for parameter in duplicate.parameters():
            parameter.data = parameter.data.copy()
        self.modules_to_save[name] = duplicate.requires_grad_(True)

    def delete_adapter(self, name: str) -> None:
        self.modules_to_save.pop(name, None)

    def rename_adapter(self, old: str, new: str) -> None:
        self.modules_to_save = renamed(self.modules_to_save, old, new)
        self.active_adapter = new if self.active_adapter == old else self.active_adapter

    def active_module(self) -> Module:
        return self.original_module if self.disable_adapters else self.trained_module()

    def trained_module(self) -> Module:
        """Return the active adapter's copy, be it switched off or not; the original where it has none."""
        names = (str(self.active_adapter),) if acting.names is None else acting.names
        return next(
            (self.modules_to_save[name] for name in names if name in self.modules_to_save), self.original_module
        )

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Backward]:
        if acting.rows is not None and not self.disable_adapters:
            return by_rows.whole(self.original_module, self.modules_to_save, *args, *kwargs.values())
        return self.active_module()(*args, **kwargs)
