"""A frozen layer with adapters by name, one of which is on, off, or merged. It knows no mathematics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from npora.lora.adapter import Adapter
from npora.nn.dropout import active_rng
from npora.nn.held import Values, holding
from npora.nn.linear import Linear
from npora.nn.module import Array, Identities, Module, Named, Parameter, Pullback


@dataclass(frozen=True)
class Merged:
    """A layer of its own with what the adapters of these names make of W and b, the parameters that it was made of, the
    arrays that they held, and whether these were writeable."""

    layer: Linear
    names: tuple[str, ...]
    made_of: list[tuple[Parameter, Array, bool]]


class Adapted(Module):
    """What stands in an adapted layer's place:  y = x f(W)ᵀ + b′, with f of the active adapter.

    `base_layer` stays frozen. The adapters' tensors have PEFT's names, `lora_A.default.weight`. Merging makes a layer
    of its own and leaves W's bytes alone, so that unmerging is exact; what is merged is a picture of the base and the
    adapter, and refuses to be used once one of them has other values.
    """

    def __init__(self, base_layer: Linear) -> None:
        self.base_layer = base_layer.requires_grad_(False)
        self.adapters: dict[str, Adapter] = {}
        self.active_adapter: str | None = None
        self.disable_adapters = False
        self._merged: Merged | None = None

    def named_members(self) -> Iterator[tuple[str, Module | Parameter]]:
        yield "base_layer", self.base_layer
        for name, adapter in self.adapters.items():
            for tensor, parameter in zip(adapter.tensors.values(), adapter.parameters(), strict=True):
                yield tensor.live_name(name), parameter

    def __getattr__(self, name: str) -> dict[str, Any]:
        """An adapter's tensor as one reaches it in PEFT: `layer.lora_A["default"].weight`."""
        found: dict[str, Any] = {}
        for adapter_name, adapter in vars(self).get("adapters", {}).items():
            for tensor, parameter in zip(adapter.tensors.values(), adapter.parameters(), strict=True):
                first, _, leaf = tensor.live.partition(".{}")
                if first == name:
                    found[adapter_name] = SimpleNamespace(**{leaf[1:]: parameter}) if leaf else parameter
        if not found:
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
        return found

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        if self._merged is not None and not self.disable_adapters:
            return self._merged_forward(x, self._checked(self._merged))
        if self.disable_adapters or self.active_adapter is None:
            return self.base_layer(x)
        adapter = self.adapters[self.active_adapter]
        return adapter.forward(x, self.base_layer, active_rng(self, adapter.dropout_p, rng))

    def _merged_forward(self, x: Array, merged: Merged) -> tuple[Array, Pullback]:
        """The merged layer's, whose backward refuses where its adapters are to be trained."""
        y, back_layer = merged.layer(x)
        parameters = [parameter for name in merged.names for parameter in self.adapters[name].parameters()]

        def backward(dy: Array) -> Array:
            if any(parameter.requires_grad for parameter in parameters):
                raise RuntimeError(
                    f"adapter {_quoted(merged.names)} is merged, and cannot be trained so: call unmerge_adapter() first"
                )
            dx: Array = back_layer(dy)
            return dx

        return y, backward

    def delete_adapter(self, name: str) -> None:
        self.adapters.pop(name, None)

    @property
    def merged_adapters(self) -> list[str]:
        """The adapters that are merged, in their order; none before merge()."""
        return [] if self._merged is None else list(self._merged.names)

    def constants(self, name: str) -> list[Parameter]:
        """The tensors of an adapter that are never trained."""
        adapter = self.adapters.get(name)
        pairs = () if adapter is None else zip(adapter.tensors.values(), adapter.parameters(), strict=True)
        return [parameter for tensor, parameter in pairs if not tensor.trained]

    def get_delta_weight(self, name: str) -> Array:
        """f(W) − W [o,i], what merging this adapter alone adds to W."""
        delta: Array = self._composed([name]).matrix - self.base_layer.matrix
        return delta

    def on_this_layer(self, names: Sequence[str] | None) -> list[str]:
        """Which of these adapters are here, each once; the active one, where none are named."""
        if names is None:
            names = () if self.active_adapter is None else (self.active_adapter,)
        return [name for name in dict.fromkeys(names) if name in self.adapters]

    def merge(self, safe_merge: bool = False, adapter_names: Sequence[str] | None = None) -> None:
        """Use f(W) and b′ from now on, as one layer; until unmerge() the adapters' tensors are read-only.

        adapter_names : whose f are applied, in this order; the active adapter's alone, where none are named

        Raises
        ------
        RuntimeError: one is merged already, or none of them is here.  ValueError: with safe_merge, not finite.
        """
        names = self.on_this_layer(adapter_names)
        if not names:
            raise RuntimeError("no adapter is active: there is nothing to merge")
        if self._merged is not None:
            raise RuntimeError(f"adapter {_quoted(self._merged.names)} is merged already: call unmerge_adapter() first")
        layer = self._composed(names, safe_merge)
        parts = [self.base_layer.weight, *(part for name in names for part in self.adapters[name].parameters())]
        self._merged = Merged(layer, tuple(names), [(part, part.data, part.data.flags.writeable) for part in parts])
        for part in parts:
            part.data.flags.writeable = False

    def _composed(self, names: Sequence[str], safe_merge: bool = False) -> Linear:
        """A layer of its own with f_n(… f_1(W)), or W + ΔW_1 + … + ΔW_n where their method adds. What an adapter holds
        constant is of the base's own W, as it is where that adapter is alone, and so in PEFT.

        Raises ValueError with safe_merge, where one is not finite.
        """
        base = self.base_layer
        W0, b = base.matrix, None if base.bias is None else base.bias.data
        W = W0
        for name in names:
            adapter, held = self.adapters[name], Values()
            for at in [W0] if adapter.adds or W is W0 else [W0, W]:
                with holding(held, base.dtype):
                    changed, changed_b, _ = adapter.merged(at, b, *adapter.theta)
            W, b = W + (changed - W0) if adapter.adds and W is not W0 else changed, changed_b
            if safe_merge and not (np.isfinite(W).all() and (b is None or np.isfinite(b).all())):
                raise ValueError(f"adapter '{name}' is not finite: it was not merged")
        layer = base.with_matrix(W)
        if b is not None and any(self.adapters[name].changes_bias for name in names):
            layer.bias = Parameter(b, requires_grad=False)
        return layer

    def unmerge(self) -> None:
        """Go back to W, whose bytes were never touched."""
        if self._merged is None:
            raise RuntimeError("no adapter is merged")
        for part, array, was_writeable in self._merged.made_of:
            if was_writeable and part.requires_grad:  # what was frozen meanwhile stays read-only
                array.flags.writeable = True
        self._merged = None

    @staticmethod
    def _checked(merged: Merged) -> Merged:
        """Raise RuntimeError where the base or an adapter has other values than when it was merged."""
        for part, then, _ in merged.made_of:
            now = part.data
            if now is not then and not (now.dtype == then.dtype and np.array_equal(now, then)):
                raise RuntimeError(
                    f"adapter {_quoted(merged.names)} is merged, and its values or the base's are others by now: call "
                    "unmerge_adapter() before they change"
                )
        return merged

    def merged_linear(self, safe_merge: bool = False, adapter_names: Sequence[str] | None = None) -> Linear:
        """A layer with f(W) and b′ as its own, so that one that shares W (a tied embedding) is left as it is; the base
        layer itself, where there is nothing to merge. What is merged already stays so, and those of `adapter_names`
        that are not (the active one, unless named) come after it.

        Raises
        ------
        RuntimeError: what is merged has other values by now.  ValueError: with safe_merge, not finite.
        """
        before = self.merged_adapters
        names = [*before, *(name for name in self.on_this_layer(adapter_names) if name not in before)]
        if not names:
            return self.base_layer
        if self._merged is not None:
            merged = self._checked(self._merged)
            if names == before and not safe_merge:
                return merged.layer
        return self._composed(names, safe_merge)

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        name = self.active_adapter
        if name is not None and not self.disable_adapters and self._merged is None:
            yield from self.adapters[name].identities(inputs, gradients)

    def extra_repr(self) -> str:
        """A line of the layer, and one for each adapter."""
        lines = [f"in_features={self.base_layer.in_features}, out_features={self.base_layer.out_features}"]
        off = " switched off" if self.disable_adapters else ""
        for name, adapter in self.adapters.items():
            state = " merged" if name in self.merged_adapters else "" if name == self.active_adapter else " inactive"
            pairs = zip(adapter.tensors.values(), adapter.parameters(), strict=True)
            shapes = [f"{tensor.short_name} [{','.join(map(str, part.shape))}]" for tensor, part in pairs]
            trained = "trainable" if any(part.requires_grad for part in adapter.parameters()) else "frozen"
            lines.append(f"{name}: {', '.join([*shapes, trained, *adapter.said()])}{state}{off}")
        return "\n".join(lines)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
