"""A layer and its update as one matrix, for as long as neither changes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from npora.nn.linear import Linear
from npora.nn.module import Array, Module, Parameter


@dataclass(frozen=True)
class Merged:
    """W + Σ s B A over the adapters of these names, the parameters that it was made of, the arrays that they held, and
    whether these were writeable.

    Not a tuple, in which a Module would find the parameters a second time.
    """

    names: tuple[str, ...]
    weight: Array
    made_of: list[tuple[Parameter, Array, bool]]


class Merging(Module):
    """What LoRALinear knows of being merged. Merging makes a new array and leaves W's bytes alone, so that unmerging is
    exact; what is merged is a picture of W, A and B, and refuses to be used once one of them has other values."""

    base_layer: Linear
    lora_A: dict[str, Linear]
    lora_B: dict[str, Linear]
    scaling: dict[str, float]
    active_adapter: str | None
    _merged: Merged | None = None

    @property
    def merged_adapters(self) -> list[str]:
        """The adapters that are merged, in their order; none before merge()."""
        return [] if self._merged is None else list(self._merged.names)

    def get_delta_weight(self, name: str) -> Array:
        raise NotImplementedError

    def on_this_layer(self, names: Sequence[str] | None) -> list[str]:
        """Which of these adapters are here, each once; the active one, where none are named."""
        if names is None:
            names = () if self.active_adapter is None else (self.active_adapter,)
        return [name for name in dict.fromkeys(names) if name in self.lora_A]

    def merge(self, safe_merge: bool = False, adapter_names: Sequence[str] | None = None) -> None:
        """Use W + Σ s B A from now on, as one matrix; until unmerge() A and B are read-only.

        adapter_names : whose B A are added, in this order; the active adapter's alone, where none are named

        Raises
        ------
        RuntimeError: one is merged already, or none of them is here.  ValueError: with safe_merge, not finite.
        """
        names = self.on_this_layer(adapter_names)
        if not names:
            raise RuntimeError("no adapter is active: there is nothing to merge")
        if self._merged is not None:
            raise RuntimeError(f"adapter {self._names()} is merged already: call unmerge_adapter() first")
        merged = self._sum(names, safe_merge)
        merged.flags.writeable = False
        parts = [self.base_layer.weight, *self._pairs(names)]
        self._merged = Merged(tuple(names), merged, [(part, part.data, part.data.flags.writeable) for part in parts])
        for part in parts:
            part.data.flags.writeable = False

    def _sum(self, names: Sequence[str], safe_merge: bool) -> Array:
        """W + Σ s B A    [o,i]. Raises ValueError with safe_merge, where a partial sum is not finite."""
        merged: Array = self.base_layer.matrix
        for name in names:
            merged = merged + self.get_delta_weight(name)
            if safe_merge and not np.isfinite(merged).all():
                raise ValueError(f"adapter '{name}' is not finite: it was not merged")
        return merged

    def _pairs(self, names: Sequence[str]) -> list[Parameter]:
        return [lora[name].weight for name in names for lora in (self.lora_A, self.lora_B)]

    def _names(self) -> str:
        return ", ".join(f"'{name}'" for name in self.merged_adapters)

    def unmerge(self) -> None:
        """Go back to W, whose bytes were never touched."""
        if self._merged is None:
            raise RuntimeError("no adapter is merged")
        for part, array, was_writeable in self._merged.made_of:
            if was_writeable and part.requires_grad:  # what was frozen meanwhile stays read-only
                array.flags.writeable = True
        self._merged = None

    @property
    def _merged_weight(self) -> Array | None:
        """W + Σ s B A, where it is merged. Raises RuntimeError where W, A or B have other values by now."""
        if self._merged is None:
            return None
        for part, then, _ in self._merged.made_of:
            now = part.data
            if now is not then and not (now.dtype == then.dtype and np.array_equal(now, then)):
                raise RuntimeError(
                    f"adapter {self._names()} is merged, and its values or the base's are others by now: call "
                    "unmerge_adapter() before they change"
                )
        return self._merged.weight

    def merged_linear(self, safe_merge: bool = False, adapter_names: Sequence[str] | None = None) -> Linear:
        """The base layer with the merged weight as its own: a new Parameter, so that a layer that shares the old one
        (a tied embedding) is left as it is; the base layer itself, where there is nothing to merge. What is merged
        already stays so, and those of `adapter_names` that are not (the active one, unless named) come after it.

        Raises
        ------
        RuntimeError: what is merged has other values by now.  ValueError: with safe_merge, not finite.
        """
        merged, before = self._merged_weight, self.merged_adapters
        names = [*before, *(name for name in self.on_this_layer(adapter_names) if name not in before)]
        if not names:
            return self.base_layer
        if merged is None or safe_merge or names != before:
            merged = self._sum(names, safe_merge)
        linear = copy.copy(self.base_layer)
        linear.weight = Parameter(self.base_layer.stored(merged), requires_grad=False)
        return linear

    def extra_repr(self) -> str:
        base, adapters = self.base_layer, []
        for name, A in self.lora_A.items():
            state = " merged" if name in self.merged_adapters else "" if name == self.active_adapter else " inactive"
            adapters.append(f"{name}: r={len(A.weight.data)}, s={self.scaling[name]:g}{state}")
        return f"in_features={base.in_features}, out_features={base.out_features}, {'; '.join(adapters)}"
