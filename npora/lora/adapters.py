"""Several adapters on one base: which there are, and what belongs to each."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from npora.lora.adapted import Adapted
from npora.lora.biases import TrainedBiases
from npora.lora.by_rows import together
from npora.lora.config import PeftConfig
from npora.lora.files import Origin, base_name, digest
from npora.lora.fit import Plan
from npora.lora.inject import PlainView, base_parameters, check_name, inject, make_shared
from npora.lora.match import PEFTS_HEADS, bias_mode, drawn_modules, saved_paths, target_paths
from npora.lora.mixed import BASE, UnknownRows, by_adapter, joined, refuse_backward
from npora.lora.names import names_match, renamed
from npora.lora.saved import ModulesToSaveWrapper
from npora.lora.shared import LoraModel
from npora.nn.module import Array, Backward, Module, Parameter

DEFAULT_SEED = 42


def check_config(config: object) -> None:
    if not isinstance(config, PeftConfig) or type(config) is PeftConfig:
        own = ", ".join(kind.__name__ for kind in PeftConfig.kinds.values())
        found = f"{type(config).__module__}.{type(config).__qualname__}"
        raise TypeError(f"an adapter's config must be one of npora's, {own}; got a {found}")


class Adapters(Module):
    """This is a frozen base with its adapters by name. One of them, several, or none yet are active."""

    def __init__(self, model: Module) -> None:
        if any(isinstance(module, Adapted | ModulesToSaveWrapper) for module in model.modules()):
            raise ValueError(
                "this model has adapters already: call add_adapter() or load_adapter() of its PeftModel, or unload()"
            )
        self.base_model = LoraModel(model)
        self.peft_config: dict[str, PeftConfig] = {}
        self._active: list[str] = []
        self._drawn = drawn_modules(model)  # asked now: its names are others once it is wrapped
        self._origins: dict[str, Origin] = {}  # of adapters that were loaded
        self._notes: dict[str, dict[str, Any]] = {}
        self._biases = TrainedBiases()
        self._off: list[object] = []  # one for each disable_adapter() that is being run
        self._were_off: set[int] = set()  # the ids of layers that were switched off before the first of them

    def forward(self, *args: Any, adapter_names: Sequence[str] | None = None, **kwargs: Any) -> tuple[Any, Backward]:
        """Call the base with the active adapters, or each row of a batch with the adapter that is named for it.

        adapter_names : for inference, a name for each row, "__base__" for none

        Raises
        ------
        ValueError: another number of names than of rows, a name that there is not.  RuntimeError: one is merged, or
        backward is called.
        """
        self._refuse_waiting(self._active if adapter_names is None else adapter_names)
        if adapter_names is None:
            return self.base_model(*args, **kwargs)
        names = self._checked_rows(adapter_names, args, kwargs)

        def call(*some: Any, **others: Any) -> Any:
            output, _ = self.base_model(*some, **others)
            getattr(output, "logits", None)  # computed now, while its adapter acts
            return output

        try:
            return together(names, lambda: call(*args, **kwargs)), refuse_backward
        except UnknownRows:
            rows, outputs = by_adapter(names, call, args, kwargs)
            return joined(outputs, list(rows.values())), refuse_backward

    def _checked_rows(self, names: Sequence[str], args: Sequence[Any], keywords: Mapping[str, Any]) -> list[str]:
        if isinstance(names, str):
            raise TypeError(f"adapter_names must be a list of names, one for each row; got {names!r}")
        for name in names:
            if name != BASE:
                self._refuse_unknown(name)
        first = next((value for value in (*args, *keywords.values()) if isinstance(value, np.ndarray | list)), ())
        if len(first) != len(names) or not len(names):
            raise ValueError(f"adapter_names must name an adapter for each row: {len(first)} rows, {len(names)} names")
        self._refuse_merged("pass adapter_names")
        if self.training or keywords.get("rng") is not None:
            raise ValueError("adapter_names are for inference: call eval(), and pass no rng")
        if self._biases and BASE in names:
            raise ValueError(
                f"{BASE} has no rows of its own beside an adapter that trains biases: use disable_adapter()"
            )
        return list(names)

    @property
    def active_adapter(self) -> str:
        """The active adapter, and the first of several."""
        if not self._active:
            raise RuntimeError("there is no adapter")
        return self._active[0]

    @property
    def active_adapters(self) -> list[str]:
        return list(self._active)

    @property
    def active_peft_config(self) -> PeftConfig:
        return self.peft_config[self.active_adapter]

    @property
    def notes(self) -> dict[str, Any]:
        """What a program wants to find again with the active adapter, as JSON holds it: it is saved and loaded."""
        return self._notes[self.active_adapter]

    @notes.setter
    def notes(self, notes: Mapping[str, Any]) -> None:
        self._notes[self.active_adapter] = dict(notes)

    def get_base_model(self) -> Module:
        return self.base_model.model

    def lora_layers(self) -> list[tuple[str, Adapted]]:
        return [(path, m) for path, m in self.base_model.model.named_modules() if isinstance(m, Adapted)]

    def _switches(self) -> list[Any]:
        return [m for m in self.base_model.model.modules() if isinstance(m, Adapted | ModulesToSaveWrapper)]

    def _view(self) -> PlainView:
        return PlainView(self.base_model.model, self._drawn)

    def _merged_adapters(self) -> list[str]:
        return list(dict.fromkeys(name for _, layer in self.lora_layers() for name in layer.merged_adapters))

    def _refuse_merged(self, what: str, adapter_name: str | None = None) -> None:
        """Raise RuntimeError where this adapter is merged, or any is, unless one is named."""
        for name in self._merged_adapters():
            if adapter_name in (None, name):
                raise RuntimeError(f"adapter '{name}' is merged: call unmerge_adapter() first, and then {what}")

    def _refuse_waiting(self, adapter_names: Sequence[str]) -> None:
        """Raise RuntimeError where one of these is on, and begins with data that it has not been given."""
        for name in adapter_names if not self._off else ():
            if name in self.peft_config and (needed := self.peft_config[name].waits_for):
                raise RuntimeError(f"adapter '{name}' begins with data: call {needed} before it is used")

    def _refuse_unknown(self, adapter_name: str) -> None:
        if adapter_name not in self.peft_config:
            raise ValueError(
                f"there is no adapter '{adapter_name}'; there are: {', '.join(self.peft_config) or 'none'}"
            )

    def add_adapter(self, adapter_name: str, peft_config: PeftConfig, seed: int = DEFAULT_SEED) -> None:
        """Add an adapter, not yet active. Its A's are drawn from `seed` and the module's path, nothing else.

        Raises
        ------
        ValueError: a config that cannot be honoured here, or a name that is taken. Nothing is then changed.
        """
        check_config(peft_config)
        self._check_place(adapter_name, peft_config)
        peft_config.check_new()
        view, completed = self._view(), copy.copy(peft_config)
        completed.complete(self.get_base_model())
        planned = Plan.of(view, completed, target_paths(view, completed), saved_paths(view, completed))
        vars(peft_config).update(vars(completed))  # written out, since PEFT may know no default for this model
        heads = PEFTS_HEADS if peft_config.task_type in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS") else ()
        named = (*heads, *(peft_config.modules_to_save or ()))
        if unsaid := [path for path in planned.saved if not any(names_match(name, path) for name in named)]:
            peft_config.modules_to_save = sorted({*(peft_config.modules_to_save or ()), *unsaid})  # for PEFT to know
        name, revision = base_name(self.get_base_model())
        if name is not None:
            peft_config.base_model_name_or_path, peft_config.revision = name, revision or peft_config.revision
        self._install(adapter_name, peft_config, planned, seed)

    def _check_place(self, adapter_name: str, config: PeftConfig) -> None:
        check_name(adapter_name)
        if adapter_name in self.peft_config:
            raise ValueError(f"there is an adapter named '{adapter_name}' already")
        if self.peft_config and (bias_mode(config) != "none" or self._biases):
            raise ValueError("an adapter that trains biases of the base cannot share the model with another adapter")

    def _install(self, adapter_name: str, config: PeftConfig, planned: Plan, seed: int | None = DEFAULT_SEED) -> None:
        model = self.base_model.model
        shared = make_shared(
            self._view(), config, planned.targets, np.random.default_rng(DEFAULT_SEED if seed is None else seed)
        )
        if shared:
            self.base_model.shared[adapter_name] = shared
            self.base_model.keep_equal_arrays_once()
        inject(model, config, adapter_name, seed, planned.targets, planned.saved, planned.tokens, shared)
        if not self.peft_config:
            model.requires_grad_(False)
        self.peft_config[adapter_name] = config
        self._notes[adapter_name] = {}
        self._biases.remember(self.trained_biases(adapter_name))
        if self._off:
            for module in self._switches():
                module.disable_adapters = True
        self._requires_grad(adapter_name, False)

    def delete_adapter(self, adapter_name: str) -> None:
        """Forget an adapter; layers that no other one is on are the base's own again. Raises where it is the active
        one, or merged, or there is none of this name."""
        self._refuse_unknown(adapter_name)
        if adapter_name in self._active:
            raise ValueError(f"adapter '{adapter_name}' is active: set_adapter() another first")
        self._refuse_merged("delete_adapter()", adapter_name)
        for of_adapters in (self.peft_config, self._notes, self._origins, self.base_model.shared):
            of_adapters.pop(adapter_name, None)
        model = self.base_model.model
        for path, module in list(model.named_modules()):
            if isinstance(module, Adapted | ModulesToSaveWrapper):
                module.delete_adapter(adapter_name)
                if isinstance(module, Adapted) and not module.adapters:
                    model.set_submodule(path, module.base_layer)
                elif isinstance(module, ModulesToSaveWrapper) and not module.modules_to_save:
                    model.set_submodule(path, module.original_module)

    def rename_adapter(self, old_name: str, new_name: str) -> None:
        """Give an adapter another name, be it active, merged or off: nothing else of it changes.

        Raises ValueError where there is none of the old name, or one of the new.
        """
        self._refuse_unknown(old_name)
        check_name(new_name)
        if new_name in self.peft_config:
            raise ValueError(f"there is an adapter named '{new_name}' already")
        self.peft_config = renamed(self.peft_config, old_name, new_name)
        self._notes = renamed(self._notes, old_name, new_name)
        self._origins = renamed(self._origins, old_name, new_name)
        self.base_model.shared = renamed(self.base_model.shared, old_name, new_name)
        self._active = [new_name if name == old_name else name for name in self._active]
        for module in self._switches():
            module.rename_adapter(old_name, new_name)

    def trained_biases(self, adapter_name: str) -> list[tuple[str, Parameter]]:
        """Return the base's biases that this adapter trains, by all their names in the whole model."""
        mode = bias_mode(self.peft_config[adapter_name])
        if mode == "none":
            return []
        wrappers = [m for m in self.modules() if isinstance(m, ModulesToSaveWrapper)]
        below = {id(parameter) for wrapper in wrappers for parameter in wrapper.original_module.parameters()}
        biases = [
            (f"base_model.model.{name}", parameter)
            for name, _, parameter in base_parameters(self.base_model.model, remove_duplicate=False)
            if name.endswith(".bias") and id(parameter) not in below
        ]
        return biases if mode == "all" else [(n, p) for n, p in biases if n.endswith(".base_layer.bias")]

    def adapter_parameters(self, adapter_name: str) -> dict[str, Parameter]:
        """Return what belongs to an adapter, under the names of PEFT's files: without the adapter's own name."""
        self._refuse_unknown(adapter_name)
        found = dict(self.trained_biases(adapter_name))
        for path, module in self.named_modules():
            if isinstance(module, Adapted) and adapter_name in module.adapters:
                found |= module.adapters[adapter_name].in_file(path, self.peft_config[adapter_name])
            elif isinstance(module, ModulesToSaveWrapper) and adapter_name in module.modules_to_save:
                for name, parameter in module.modules_to_save[adapter_name].named_parameters():
                    found[f"{path}.{name}"] = parameter
        return found

    def _requires_grad(self, adapter_name: str, value: bool) -> None:
        constants = self._constants(adapter_name)
        for parameter in self.adapter_parameters(adapter_name).values():
            if parameter.requires_grad != value and id(parameter) not in constants:
                parameter.requires_grad = value

    def _constants(self, adapter_name: str) -> set[int]:
        """Return the ids of an adapter's tensors that are never trained."""
        return {id(parameter) for _, layer in self.lora_layers() for parameter in layer.constants(adapter_name)}

    def _refuse_lost(self, adapter_name: str) -> None:
        """Raise ValueError where a file would lack arrays of the whole model that its config does not draw again."""
        config, layers = self.peft_config[adapter_name], self.lora_layers()
        if not getattr(config, "save_projection", True):
            targets = [path for path, layer in layers if adapter_name in layer.adapters]
            drawn = make_shared(self._view(), config, targets, np.random.default_rng(DEFAULT_SEED))
            self.base_model.refuse_others(adapter_name, drawn)

    def base_state(self) -> dict[str, Array]:
        """Return the base's arrays under the names, and with the values, that they have without adapters."""
        biases, state = self._biases.base_values(), {}
        for _, plain, parameter in base_parameters(self.base_model.model):
            state[plain] = biases.get(id(parameter), parameter.data)
        return state

    def _frozen_state(self, saved: list[str]) -> dict[str, Array]:
        """Return what an adapter that trains these modules rests on: the base without them and what was drawn."""
        apart = tuple(f"{path}." for path in (*saved, *self._drawn))
        return {name: array for name, array in self.base_state().items() if not name.startswith(apart)}

    def base_sha256(self) -> str:
        """The digest of the base that the active adapter rests on, as its file records it."""
        with self._biases.on():
            return digest(self._frozen_state(self._saved_paths(self.active_adapter)))

    def _saved_paths(self, adapter_name: str) -> list[str]:
        return [
            path for path, module in self.base_model.model.named_modules()
            if isinstance(module, ModulesToSaveWrapper) and adapter_name in module.modules_to_save
        ]  # fmt: skip

    def get_nb_trainable_parameters(self) -> tuple[int, int]:
        """Count the numbers that are trained, and all of them, with adapters and copies of heads, and without the
        adapters' constants, which in PEFT are buffers."""
        names, layers = self.peft_config, self.lora_layers()
        buffers = {id(part) for name in names for _, layer in layers for part in layer.constants(name, counted=False)}
        parameters = [parameter for parameter in self.parameters() if id(parameter) not in buffers]
        return sum(p.size for p in parameters if p.requires_grad), sum(p.size for p in parameters)

    def print_trainable_parameters(self) -> None:
        trainable, everything = self.get_nb_trainable_parameters()
        print(
            f"trainable params: {trainable:,d} || all params: {everything:,d} || "
            f"trainable%: {100 * trainable / everything:.4f}"
        )
