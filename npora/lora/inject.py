"""Put an adapter's layers into a model, in place."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from npora.lora.config import LoraConfig
from npora.lora.linear import LoRALinear
from npora.lora.match import rank_and_alpha
from npora.lora.saved import ModulesToSaveWrapper
from npora.nn.linear import Conv1D, Linear
from npora.nn.module import Module, Parameter


def check_name(name: str) -> None:
    """Raises ValueError for a name that could not be a key of the module or a directory."""
    if not name or not all(c.isalnum() or c in "_-" for c in name):
        raise ValueError(f"an adapter's name is made of letters, digits, _ and -; got {name!r}")


def inject(
    model: Module, config: LoraConfig, adapter_name: str, seed: int, targets: Sequence[str], saved: Sequence[str]
) -> None:
    """Give each target a LoRALinear, and each module to save a trained copy; none of them is active yet.

    A's initial values come from `seed` and the module's path, nothing else: neither the order of the modules nor other
    adapters change them.
    """
    plain = PlainView(model)
    config.fan_in_fan_out = any(isinstance(plain.linear(path), Conv1D) for path in targets)  # as PEFT writes it
    for path in targets:
        r, alpha = rank_and_alpha(path, config)
        rng = np.random.default_rng([seed, zlib.crc32(path.encode())])
        module = plain.modules_by_path[path]
        if isinstance(module, LoRALinear):
            scaling = config.scaling(r, alpha)
            module.add_adapter(adapter_name, r, scaling, config.lora_dropout, config.init_lora_weights, rng)
        else:
            layer = LoRALinear(
                plain.linear(path), r, alpha, config.lora_dropout, use_rslora=config.use_rslora,
                init_lora_weights=config.init_lora_weights, adapter_name=adapter_name, rng=rng,
            )  # fmt: skip
            layer.active_adapter = None
            model.set_submodule(path, layer)
    for path in saved:
        module = plain.modules_by_path[path]
        if isinstance(module, ModulesToSaveWrapper):
            module.add_adapter(adapter_name)
        else:
            wrapper = ModulesToSaveWrapper(module, adapter_name)
            wrapper.active_adapter = None
            model.set_submodule(path, wrapper)


class PlainView(Module):
    """The model's paths and modules as they were before wrapping, so that a second adapter finds the same names.

    drawn : the paths of the modules that the model drew, where that was asked of it before it was wrapped
    """

    def __init__(self, model: Module, drawn: Sequence[str] = ()) -> None:
        self.modules_by_path: dict[str, Module] = {}
        self.default_target_modules = getattr(model, "default_target_modules", ())
        self.output_embeddings = getattr(model, "output_embeddings", None)
        self.saved_along = getattr(model, "saved_along", {})
        self.drawn = tuple(drawn)
        self.below_saved: set[str] = set()  # parts of what an adapter trains whole
        hidden: tuple[str, ...] = ()
        for path, module in model.named_modules():
            if path.startswith(hidden):
                continue
            self.modules_by_path[path] = module
            if isinstance(module, LoRALinear | ModulesToSaveWrapper):
                hidden += (path + ".",)
            if isinstance(module, ModulesToSaveWrapper):
                parts = {f"{path}.{name}": part for name, part in module.original_module.named_modules() if name}
                self.modules_by_path |= parts
                self.below_saved |= parts.keys()

    def refuse_overlap(self, targets: Sequence[str], saved: Sequence[str]) -> None:
        """Raise ValueError where an adapter is to go on what another one trains whole, or the other way round."""
        taken = {path for path, m in self.modules_by_path.items() if isinstance(m, LoRALinear | ModulesToSaveWrapper)}
        for path in (*targets, *saved):
            inside = [other for other in taken if other.startswith(path + ".")]
            if path in self.below_saved or isinstance(self.modules_by_path[path], _other(path in saved)) or inside:
                raise ValueError(
                    f"another adapter of this model trains {inside[0] if inside else 'what holds ' + path}, and an "
                    f"adapter on {path} would train it too: load the two on models of their own"
                )

    def newly_initialized_modules(self) -> tuple[str, ...]:
        return self.drawn

    def linear(self, path: str) -> Linear:
        """The linear layer at a target's path, below the adapters that it has."""
        layer: Any = self.module(path)
        found: Linear = layer
        return found

    def module(self, path: str) -> Module | None:
        """The base's own module at a path."""
        module = self.modules_by_path.get(path)
        if isinstance(module, LoRALinear):
            return module.base_layer
        return module.original_module if isinstance(module, ModulesToSaveWrapper) else module

    def parameter(self, name: str) -> Parameter | None:
        """The base's own parameter of this name, in whichever of its modules it is named; None where there is none."""
        path, _, leaf = name.rpartition(".")
        found = getattr(self.module(path), leaf, None)
        return found if isinstance(found, Parameter) else None

    def shares(self, module: Module) -> bool:
        """Whether a parameter of this module is another module's too."""
        own = {id(parameter) for parameter in module.parameters()}
        inside = {id(part) for part in module.modules()}
        others = [part for path in self.modules_by_path if (part := self.module(path)) and id(part) not in inside]
        return any(isinstance(v, Parameter) and id(v) in own for part in others for v in vars(part).values())

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        for path, module in self.modules_by_path.items():
            yield path, module.base_layer if isinstance(module, LoRALinear) else module


def _other(is_saved: bool) -> type[Module]:
    return LoRALinear if is_saved else ModulesToSaveWrapper


def plain_name(name: str) -> str | None:
    """A parameter's name in the base before it was wrapped; None for one that belongs to an adapter."""
    parts = name.split(".")
    if not {"lora_A", "lora_B", "modules_to_save"}.isdisjoint(parts):
        return None
    return ".".join(part for part in parts if part not in ("base_layer", "original_module"))


def is_bias(name: str) -> bool:
    """Whether a parameter of this name is a bias of the base, and not of an adapter's copy."""
    return name.endswith(".bias") and plain_name(name) is not None
