"""A layer and its update as one matrix, for as long as neither changes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from npora.nn.linear import Linear
from npora.nn.module import Array, Module, Parameter


@dataclass(frozen=True)
class Merged:
    """W + s B A, the parameters that it was made of, the arrays that they held, and whether these were writeable.

    Not a tuple, in which a Module would find the parameters a second time.
    """

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
    merged_adapter: str | None = None
    disable_adapters: bool = False
    _merged: Merged | None = None

    def get_delta_weight(self, name: str) -> Array:
        raise NotImplementedError

    def merge(self, safe_merge: bool = False) -> None:
        """Use W + s B A from now on, as one matrix; until unmerge() A and B are read-only.

        Raises
        ------
        RuntimeError: the adapter is merged already, or none is active.  ValueError: with safe_merge, not finite.
        """
        name = self.active_adapter
        if name is None:
            raise RuntimeError("no adapter is active: there is nothing to merge")
        if self._merged is not None:
            raise RuntimeError(f"adapter '{self.merged_adapter}' is merged already: call unmerge_adapter() first")
        merged = self.base_layer.matrix + self.get_delta_weight(name)
        if safe_merge:
            _refuse_unless_finite(merged, name)
        merged.flags.writeable = False
        parts = [self.base_layer.weight, self.lora_A[name].weight, self.lora_B[name].weight]
        self._merged = Merged(merged, [(part, part.data, part.data.flags.writeable) for part in parts])
        for part in parts:
            part.data.flags.writeable = False
        self.merged_adapter = name

    def unmerge(self) -> None:
        """Go back to W, whose bytes were never touched."""
        if self._merged is None:
            raise RuntimeError("no adapter is merged")
        for part, array, was_writeable in self._merged.made_of:
            if was_writeable and part.requires_grad:  # what was frozen meanwhile stays read-only
                array.flags.writeable = True
        self._merged, self.merged_adapter = None, None

    def check_finite(self) -> None:
        """What safe_merge asks for, of an adapter that is merged already. Raises ValueError."""
        if self._merged_weight is not None:
            _refuse_unless_finite(self._merged_weight, str(self.merged_adapter))

    @property
    def _merged_weight(self) -> Array | None:
        """W + s B A, where it is merged. Raises RuntimeError where W, A or B have other values by now."""
        if self._merged is None:
            return None
        for part, then, _ in self._merged.made_of:
            now = part.data
            if now is not then and not (now.dtype == then.dtype and np.array_equal(now, then)):
                raise RuntimeError(
                    f"adapter '{self.merged_adapter}' is merged, and its values or the base's are others by now: call "
                    "unmerge_adapter() before they change"
                )
        return self._merged.weight

    def merged_linear(self) -> Linear:
        """The base layer with the merged weight as its own: a new Parameter, so that a layer that shares the old one
        (a tied embedding) is left as it is."""
        if self._merged_weight is None:
            self.merge()
        merged: Any = self._merged_weight
        linear = copy.copy(self.base_layer)
        linear.weight = Parameter(self.base_layer.stored(merged), requires_grad=False)
        return linear

    def extra_repr(self) -> str:
        base, adapters = self.base_layer, []
        for name, A in self.lora_A.items():
            state = " merged" if name == self.merged_adapter else "" if name == self.active_adapter else " inactive"
            off = " switched off" if self.disable_adapters else ""
            adapters.append(f"{name}: r={len(A.weight.data)}, s={self.scaling[name]:g}{state}{off}")
        return f"in_features={base.in_features}, out_features={base.out_features}, {'; '.join(adapters)}"


def _refuse_unless_finite(merged: Array, name: str) -> None:
    if not np.isfinite(merged).all():
        raise ValueError(f"adapter '{name}' is not finite: it was not merged")
