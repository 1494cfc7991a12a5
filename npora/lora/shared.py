"""The base model under PEFT's second level of names, and what adapters have once for the whole of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from npora.nn.module import Array, Backward, Module, Parameter


class LoraModel(Module):
    """This holds the base model under PEFT's second level of names, `base_model.model.…`, and beside it what an adapter
    has once for all its layers, `base_model.vera_A.default`."""

    def __init__(self, model: Module) -> None:
        self.model = model
        self.shared: dict[str, dict[str, Parameter]] = {}  # of each adapter, by name

    def named_members(self) -> Iterator[tuple[str, Module | Parameter]]:
        yield "model", self.model
        for adapter, arrays in self.shared.items():
            yield from ((f"{name}.{adapter}", parameter) for name, parameter in arrays.items())

    def keep_equal_arrays_once(self) -> None:
        """Let frozen arrays of several adapters that have one name and equal values lie in one memory."""
        seen: dict[str, list[Array]] = {}
        for arrays in self.shared.values():
            for name, parameter in arrays.items():
                if not parameter.requires_grad:
                    same = (array for array in seen.setdefault(name, []) if np.array_equal(array, parameter.data))
                    parameter.data = next(same, parameter.data)
                    seen[name].append(parameter.data)

    def refuse_others(self, adapter_name: str, drawn: Mapping[str, Parameter]) -> None:
        """Raise ValueError where an adapter's arrays are not those that were drawn."""
        for name, parameter in self.shared.get(adapter_name, {}).items():
            if not np.array_equal(parameter.data, drawn[name].data):
                raise ValueError(
                    f"{name} of adapter '{adapter_name}' is not what its config draws, and with save_projection=False "
                    "would not be in the file: set save_projection=True"
                )

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Any, Backward]:
        return self.model(*args, **kwargs)
