"""Put an adapter's layers into a model, in place."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import numpy as np

from npora.lora.adapted import Adapted
from npora.lora.adapter import Adapter
from npora.lora.config import PeftConfig
from npora.lora.methods import method_of
from npora.lora.methods.trainable_tokens import input_embedding
from npora.lora.mixed import BASE
from npora.lora.saved import ModulesToSaveWrapper
from npora.lora.tokens import Tokens, make_token_adapters
from npora.nn.init import Source, Unset
from npora.nn.linear import Conv1D, Linear
from npora.nn.module import Module, Parameter


def check_name(name: str) -> None:
    """Raise ValueError for a name that could not be a key of the module or a directory, or that means the base."""
    if not isinstance(name, str) or not name or not all(c.isalnum() or c in "_-" for c in name):
        raise ValueError(f"an adapter's name is made of letters, digits, _ and -; got {name!r}")
    if name == BASE:
        raise ValueError(f"adapter_names call the base {BASE}: give the adapter another name")


def inject(
    model: Module,
    config: PeftConfig,
    adapter_name: str,
    seed: int | None,
    targets: Sequence[str],
    saved: Sequence[str],
    tokens: Mapping[str, Tokens],
    shared: Mapping[str, Parameter],
) -> None:
    """Give each target an adapter, each layer with trained tokens its own, and each module to save a trained copy; none
    of them is active yet.

    What is drawn comes from `seed` and the module's path, nothing else: neither the order of the modules nor other
    adapters change it. With None for it nothing is drawn, since values will be loaded. `shared` holds the arrays of the
    whole model that the method has.
    """
    plain = PlainView(model)
    if hasattr(config, "fan_in_fan_out"):
        config.fan_in_fan_out = any(isinstance(plain.linear(path), Conv1D) for path in targets)  # as PEFT writes it
    made = {}
    for path in targets:
        rng = Unset() if seed is None else np.random.default_rng([seed, zlib.crc32(path.encode())])
        made[path] = make_adapter(plain.linear(path), config, rng, path, shared)
    rng = Unset() if seed is None else np.random.default_rng(seed)
    made |= make_token_adapters(plain, tokens, made, rng)
    for path, adapter in made.items():  # none is refused any more
        module = plain.modules_by_path[path]
        if not isinstance(module, Adapted):
            module = Adapted(plain.linear(path))
            model.set_submodule(path, module)
        module.adapters[adapter_name] = adapter
        vars(module.base_layer).pop("_prepared", None)  # what its start was made of
    for path in saved:
        module = plain.modules_by_path[path]
        if isinstance(module, ModulesToSaveWrapper):
            module.add_adapter(adapter_name)
        else:
            wrapper = ModulesToSaveWrapper(module, adapter_name)
            wrapper.active_adapter = None
            model.set_submodule(path, wrapper)


def make_adapter(base: Linear, config: PeftConfig, rng: Source, path: str, shared: Mapping[str, Parameter]) -> Adapter:
    """Make the adapter of the config's method for the layer at a path."""
    method = method_of(config, base)
    if method is None:
        raise ValueError(f"no method of a {type(config).__name__} goes on {path}, a {type(base).__name__}")
    return method(base, config, rng, path, shared)


def make_shared(view: PlainView, config: PeftConfig, targets: Sequence[str], rng: Source) -> dict[str, Parameter]:
    """Make the arrays that the config's method has once for all of these layers."""
    layers = {path: view.linear(path) for path in targets}
    shapes = {path: (layer.out_features, layer.in_features) for path, layer in layers.items()}
    arrays: dict[str, Parameter] = {}
    for method in {method_of(config, layer): None for layer in layers.values()}:
        if method is not None:
            made = method.shared(config, shapes, next(iter(layers.values())).dtype, rng)
            is_trained = {tensor.short_name: tensor.trained for tensor in method.tensors.values()}
            arrays |= {name: Parameter(array, requires_grad=is_trained[name]) for name, array in made.items()}
    return arrays


def adapted_layer(base: Linear, config: PeftConfig, rng: Source, path: str = "layer") -> Adapted:
    """Make a layer with an adapter of its own, standing alone, as it would be at this path of a model; switched on."""
    holder = Module()
    vars(holder)[path] = base
    layer, shared = Adapted(base), make_shared(PlainView(holder), config, [path], rng)
    layer.adapters["default"] = make_adapter(base, config, rng, path, shared)
    layer.active_adapter = "default"
    return layer


class PlainView(Module):
    """A PlainView shows the model as it was before wrapping, so that a second adapter finds the same names.

    drawn : the paths of the modules that the model drew, where that was asked of it before it was wrapped
    """

    def __init__(self, model: Module, drawn: Sequence[str] = ()) -> None:
        self.modules_by_path: dict[str, Module] = {}
        self.output_embeddings = getattr(model, "output_embeddings", None)
        self.input_embeddings = input_embedding(model)
        self.saved_along = getattr(model, "saved_along", {})
        self.renamed: Mapping[str, str] = getattr(model, "renamed", {})
        self.drawn = tuple(drawn)
        self.below_saved: set[str] = set()  # parts of what an adapter trains whole
        hidden: tuple[str, ...] = ()
        for path, module in model.named_modules():
            if path.startswith(hidden):
                continue
            self.modules_by_path[path] = module
            if isinstance(module, Adapted | ModulesToSaveWrapper):
                hidden += (path + ".",)
            if isinstance(module, ModulesToSaveWrapper):
                parts = {f"{path}.{name}": part for name, part in module.original_module.named_modules() if name}
                self.modules_by_path |= parts
                self.below_saved |= parts.keys()

    def refuse_overlap(self, targets: Sequence[str], saved: Sequence[str]) -> None:
        """Raise ValueError where an adapter is to go on what another one trains whole, or the other way round."""
        taken = {path for path, m in self.modules_by_path.items() if isinstance(m, Adapted | ModulesToSaveWrapper)}
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
        """Return the linear layer at a target's path, below the adapters that it has."""
        return cast(Linear, self.module(path))

    def module(self, path: str) -> Module | None:
        """Return the base's own module at a path."""
        module = self.modules_by_path.get(path)
        if isinstance(module, Adapted):
            return module.base_layer
        return module.original_module if isinstance(module, ModulesToSaveWrapper) else module

    def parameter(self, name: str) -> Parameter | None:
        """Return the base's own parameter of this name, in whichever of its modules; None where there is none."""
        path, _, leaf = name.rpartition(".")
        found = getattr(self.module(path), leaf, None)
        return found if isinstance(found, Parameter) else None

    def shares(self, module: Module) -> bool:
        """Say whether a parameter of this module is another module's too."""
        own = {id(parameter) for parameter in module.parameters()}
        inside = {id(part) for part in module.modules()}
        others = [part for path in self.modules_by_path if (part := self.module(path)) and id(part) not in inside]
        return any(id(member) in own for part in others for _, member in part.named_members())

    def named_modules(self, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """Yield the base's own modules, each under its first name alone."""
        for path, module in self.modules_by_path.items():
            yield path, module.base_layer if isinstance(module, Adapted) else module


def _other(is_saved: bool) -> type[Module]:
    return Adapted if is_saved else ModulesToSaveWrapper


def base_parameters(model: Module, remove_duplicate: bool = True) -> Iterator[tuple[str, str, Parameter]]:
    """Yield (name now, name before the model was wrapped, parameter) of what is the base's: each once, or under all of
    its names without `remove_duplicate`."""
    of_adapters: set[int] = set()
    for module in model.modules():
        if isinstance(module, Adapted):
            of_adapters |= {id(parameter) for adapter in module.adapters.values() for parameter in adapter.parameters()}
        elif isinstance(module, ModulesToSaveWrapper):
            of_adapters |= {id(part) for copy in module.modules_to_save.values() for part in copy.parameters()}
    for name, parameter in model.named_parameters(remove_duplicate):
        if id(parameter) not in of_adapters:
            plain = (part for part in name.split(".") if part not in ("base_layer", "original_module"))
            yield name, ".".join(plain), parameter
