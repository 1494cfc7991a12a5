"""A frozen layer with adapters by name, of which some are on, off, or merged. It knows no mathematics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from npora.lora import by_rows, several
from npora.lora.adapter import Adapter
from npora.lora.mixed import acting
from npora.lora.names import renamed
from npora.nn.dropout import active_rng
from npora.nn.linear import Linear
from npora.nn.module import Array, Identities, Module, Named, Parameter, Pullback


class MergedLayer(NamedTuple):
    """A merged layer has as its own what the adapters of these names make of W and b.

    made_of : the parameters that it was made of, the arrays that they held, and whether these were writeable
    """

    layer: Linear
    names: list[str]
    made_of: list[tuple[Parameter, Array, bool]]

    def forward(self, x: Array) -> tuple[Array, Pullback]:
        """Call the layer. Its backward refuses where its adapters are to be trained."""
        self.refuse_changed()
        y, back_layer = self.layer(x)

        def backward(dy: Array) -> Array:
            if any(part.requires_grad for part, _, _ in self.made_of):
                raise RuntimeError(
                    f"adapter {_quoted(self.names)} is merged, and cannot be trained so: call unmerge_adapter() first"
                )
            return back_layer(dy)

        return y, backward

    def refuse_changed(self) -> None:
        """Raise RuntimeError where the base or an adapter has other values than when it was merged."""
        for part, then, _ in self.made_of:
            now = part.data
            if now is not then and not (now.dtype == then.dtype and np.array_equal(now, then)):
                raise RuntimeError(
                    f"adapter {_quoted(self.names)} is merged, and its values or the base's are others by now: call "
                    "unmerge_adapter() before they change"
                )


class Adapted(Module):
    """An Adapted stands in a layer's place:  y = x f(W)ᵀ + b′, with f of the active adapter, or of several in order.

    `base_layer` stays frozen. The adapters' tensors have PEFT's names, `lora_A.default.weight`. Merging makes a layer
    of its own and leaves W's bytes alone, so that unmerging is exact. The merged layer refuses to be used once the base
    or an adapter has other values than those it was made of.
    """

    def __init__(self, base_layer: Linear) -> None:
        self.base_layer = base_layer.requires_grad_(False)
        self.adapters: dict[str, Adapter] = {}
        self.active_adapters: list[str] = []  # of those that are here
        self.disable_adapters = False
        self._merged: MergedLayer | None = None

    def named_members(self) -> Iterator[tuple[str, Module | Parameter]]:
        yield "base_layer", self.base_layer
        for name, adapter in self.adapters.items():
            yield from ((tensor.live_name(name), parameter) for tensor, parameter in adapter.named())

    def __getattr__(self, name: str) -> dict[str, Any]:
        """Return each adapter's tensor of this name, as one reaches it in PEFT: `layer.lora_A["default"].weight`."""
        found: dict[str, Any] = {}
        for adapter_name, adapter in vars(self).get("adapters", {}).items():
            for tensor, parameter in adapter.named():
                first, _, leaf = tensor.live.partition(".{}")
                if first == name and leaf:
                    setattr(found.setdefault(adapter_name, SimpleNamespace()), leaf[1:], parameter)
                elif first == name:
                    found[adapter_name] = parameter
        if not found:
            raise AttributeError(f"{type(self).__name__} has no attribute '{name}'")
        return found

    def forward(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, Pullback]:
        if self.disable_adapters:
            return self.base_layer(x)
        if self._merged is not None:
            return self._merged.forward(x)
        if acting.rows is not None:
            return by_rows.adapted(x, self.base_layer, self.adapters)
        names = self.active_adapters if acting.names is None else self.on_this_layer(acting.names)
        if not names:
            return self.base_layer(x)
        self.check_that_none_replaces(names)
        active = [self.adapters[name] for name in names]
        return several.forward(x, self.base_layer, [(one, active_rng(self, one.dropout_p, rng)) for one in active])

    @property
    def active_adapter(self) -> str | None:
        """The first of the active adapters; to set it makes it the only one."""
        return next(iter(self.active_adapters), None)

    @active_adapter.setter
    def active_adapter(self, name: str | None) -> None:
        self.active_adapters = [] if name is None else [name]

    def delete_adapter(self, name: str) -> None:
        self.adapters.pop(name, None)
        self.active_adapters = [other for other in self.active_adapters if other != name]

    def rename_adapter(self, old: str, new: str) -> None:
        self.adapters = renamed(self.adapters, old, new)
        self.active_adapters = [new if name == old else name for name in self.active_adapters]
        if self._merged is not None:
            self._merged = self._merged._replace(names=[new if name == old else name for name in self._merged.names])

    @property
    def merged_adapters(self) -> list[str]:
        """The adapters that are merged, in their order; there are none before merge()."""
        return [] if self._merged is None else list(self._merged.names)

    def constants(self, name: str, counted: bool = True) -> list[Parameter]:
        """Return the tensors of an adapter that are never trained; without `counted` those alone that PEFT does not
        count, since there they are buffers."""
        named = self.adapters[name].named() if name in self.adapters else ()
        return [part for tensor, part in named if not tensor.trained and (counted or not tensor.counted)]

    def get_delta_weight(self, name: str) -> Array:
        """Return f(W) − W [o,i]: what merging this adapter alone adds to W."""
        return self._composed([name]).matrix - self.base_layer.matrix

    def bias_change(self, name: str) -> float | None:
        """Return ‖b′ − b‖ / ‖b‖ of what an adapter makes of b, and None where its method leaves b alone."""
        old, new = self.base_layer.bias, self._composed([name]).bias
        if new is old or new is None:
            return None
        was = np.zeros_like(new.data) if old is None else old.data
        change, norm = float(np.linalg.norm(new.data - was)), float(np.linalg.norm(was))
        return change / norm if norm else change

    def on_this_layer(self, names: Sequence[str] | None) -> list[str]:
        """Return those of these adapters that are here, each once; the active ones where none are named."""
        names = self.active_adapters if names is None else names
        return [name for name in dict.fromkeys(names) if name in self.adapters]

    def check_that_none_replaces(self, names: Sequence[str]) -> None:
        """Raise ValueError where one of several adapters stands in the place of W and b, or two in that of one row."""
        if len(names) < 2:
            return
        if first := next((name for name in names if self.adapters[name].replaces), None):
            raise ValueError(f"adapter '{first}' replaces what it is on, and cannot be there with others: use it alone")
        owners: dict[int, str] = {}
        for name in names:
            for token in self.adapters[name].tokens:
                if owners.setdefault(token, name) != name:
                    raise ValueError(
                        f"adapters '{owners[token]}' and '{name}' both train token {token}: use one of them"
                    )

    def merge(self, safe_merge: bool = False, adapter_names: Sequence[str] | None = None) -> None:
        """Use f(W) and b′ from now on, as one layer; until unmerge() the adapters' tensors are read-only.

        adapter_names : whose f are applied, in this order; the active adapters', where none are named

        Raises
        ------
        RuntimeError: one is merged already, none of them is here, or the layer has no bias and would get one.
        ValueError: with safe_merge, not finite.
        """
        names = self.on_this_layer(adapter_names)
        if not names:
            raise RuntimeError("no adapter is active: there is nothing to merge")
        if self._merged is not None:
            raise RuntimeError(f"adapter {_quoted(self._merged.names)} is merged already: call unmerge_adapter() first")
        layer = self._to_merge(names, safe_merge)
        parts = [self.base_layer.weight, *(part for name in names for part in self.adapters[name].parameters())]
        self._merged = MergedLayer(layer, names, [(part, part.data, part.data.flags.writeable) for part in parts])
        for part in parts:
            part.data.flags.writeable = False

    def _to_merge(self, names: Sequence[str], safe_merge: bool) -> Linear:
        """Compose what is to stand in the layer's place. It has a bias only where the layer has one, since no file of
        the model has a place for another: else RuntimeError."""
        layer = self._composed(names, safe_merge)
        if self.base_layer.bias is None and layer.bias is not None:
            raise RuntimeError(
                f"adapter {_quoted(names)} adds a bias (lora_bias=True), and the layer that it is on has none to merge "
                "it into, in PEFT neither: use the adapter as it is, or train one with lora_bias=False"
            )
        return layer

    def _composed(self, names: Sequence[str], safe_merge: bool = False) -> Linear:
        """Make a layer of its own with f_n(… f_1(W)), or W + ΔW_1 + … + ΔW_n where their method adds.

        Raises ValueError with safe_merge, where one is not finite.
        """
        base = self.base_layer
        self.check_that_none_replaces(names)
        W, b0 = base.matrix, None if base.bias is None else base.bias.data
        b = b0
        steps = several.composed(W, b0, [self.adapters[name] for name in names], base.dtype)
        for name, (_, W, b, _) in zip(names, steps, strict=True):
            if safe_merge and not (np.isfinite(W).all() and (b is None or np.isfinite(b).all())):
                raise ValueError(f"adapter '{name}' is not finite: it was not merged")
        layer = base.with_matrix(W)
        if b is not None and b is not b0:
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

    def merged_linear(self, safe_merge: bool = False, adapter_names: Sequence[str] | None = None) -> Linear:
        """Return a layer with f(W) and b′ as its own, so that one that shares W (a tied embedding) is left as it is.

        Where there is nothing to merge it is the base layer itself. What is merged already stays so, and those of
        `adapter_names` that are not (the active ones, unless named) come after it.

        Raises
        ------
        RuntimeError: what is merged has other values by now; the layer has no bias and would get one.
        ValueError: with safe_merge, not finite.
        """
        names = list(dict.fromkeys([*self.merged_adapters, *self.on_this_layer(adapter_names)]))
        if self._merged is not None:
            self._merged.refuse_changed()
            if names == self._merged.names and not safe_merge:
                return self._merged.layer
        return self._to_merge(names, safe_merge) if names else self.base_layer

    def identities(self, inputs: Named, gradients: Named) -> Identities:
        if len(self.active_adapters) == 1 and not self.disable_adapters and self._merged is None:
            yield from self.adapters[self.active_adapters[0]].identities(inputs, gradients)

    def extra_repr(self) -> str:
        """Write a line of the layer, and one of each adapter."""
        lines = [f"in_features={self.base_layer.in_features}, out_features={self.base_layer.out_features}"]
        off = " switched off" if self.disable_adapters else ""
        for name, adapter in self.adapters.items():
            state = " merged" if name in self.merged_adapters else "" if name in self.active_adapters else " inactive"
            shapes = [f"{tensor.short_name} [{','.join(map(str, part.shape))}]" for tensor, part in adapter.named()]
            trained = "trainable" if any(part.requires_grad for part in adapter.parameters()) else "frozen"
            lines.append(f"{name}: {', '.join([*shapes, trained, *adapter.said()])}{state}{off}")
        return "\n".join(lines)


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
