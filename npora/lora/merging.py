"""A layer and its update as one matrix, for as long as neither changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from npora.nn.linear import Linear
from npora.nn.module import Array, Module, Parameter, Pullback


@dataclass(frozen=True)
class Merged:
    """A layer with W + s B A for its matrix, the parameters that it was made of, the arrays that they held, and whether
    these were writeable.

    Not a tuple, in which a Module would find the parameters a second time.
    """

    layer: Linear
    made_of: list[tuple[Parameter, Array, bool]]


class Merging(Module):
    """What LoRALinear knows of being merged. Merging makes a new array and leaves W's bytes alone, so that unmerging is
    exact; what is merged is a picture of W, A and B, and refuses to be used once one of them has other values."""

    base_layer: Linear
    lora_A: dict[str, Linear]
    lora_B: dict[str, Linear]
    scaling: dict[str, float]
    active_adapter: str | None
    disable_adapters: bool
    merged_adapter: str | None = None
    _merged: Merged | None = None

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        name, merged = self.active_adapter, self.merged_layer
        if self.disable_adapters or name is None:
            return self.base_layer(x)
        return self.adapted(x, name, rng) if merged is None else self._with_merged(merged, x)

    def adapted(self, x: Array, name: str, rng: np.random.Generator | None) -> tuple[Array, Pullback]:
        raise NotImplementedError

    def get_delta_weight(self, name: str) -> Array:
        raise NotImplementedError

    def _with_merged(self, layer: Linear, x: Array) -> tuple[Array, Pullback]:
        """The merged layer's output, whose backward refuses where its adapter is to be trained."""
        y, back_layer = layer(x)
        name = str(self.merged_adapter)
        adapter = [self.lora_A[name].weight, self.lora_B[name].weight]

        def backward(dy: Array) -> Any:
            if any(parameter.requires_grad for parameter in adapter):
                raise RuntimeError(
                    f"adapter '{name}' is merged, and cannot be trained so: call unmerge_adapter() first"
                )
            return back_layer(dy)

        return y, backward

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
        merged = self.base_layer.with_matrix(self.base_layer.matrix + self.get_delta_weight(name))
        if safe_merge:
            _refuse_unless_finite(merged, name)
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
        if self.merged_layer is not None:
            _refuse_unless_finite(self.merged_layer, str(self.merged_adapter))

    @property
    def merged_layer(self) -> Linear | None:
        """The base layer with W + s B A as its own weight, where it is merged: a new Parameter, so that a layer that
        shares the old one (a tied embedding) is left as it is.

        Raises
        ------
        RuntimeError: W, A or B have other values by now.
        """
        if self._merged is None:
            return None
        for part, then, _ in self._merged.made_of:
            now = part.data
            if now is not then and not (now.dtype == then.dtype and np.array_equal(now, then)):
                raise RuntimeError(
                    f"adapter '{self.merged_adapter}' is merged, and its values or the base's are others by now: call "
                    "unmerge_adapter() before they change"
                )
        return self._merged.layer

    def merged_linear(self) -> Linear:
        """merged_layer, of an adapter that is merged now if it was not."""
        if self.merged_layer is None:
            self.merge()
        assert self.merged_layer is not None
        return self.merged_layer

    def extra_repr(self) -> str:
        base, adapters = self.base_layer, []
        for name, A in self.lora_A.items():
            state = " merged" if name == self.merged_adapter else "" if name == self.active_adapter else " inactive"
            adapters.append(f"{name}: r={len(A.weight.data)}, s={self.scaling[name]:g}{state}")
        return f"in_features={base.in_features}, out_features={base.out_features}, {'; '.join(adapters)}"


def _refuse_unless_finite(merged: Linear, name: str) -> None:
    if not np.isfinite(merged.matrix).all():
        raise ValueError(f"adapter '{name}' is not finite: it was not merged")
