"""LoraConfig: PEFT's fields, names and defaults."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from npora.files import read_json, write_json
from npora.lora.folder import CONFIG_NAME, adapter_directory
from npora.lora.names import TaskType, plain
from npora.lora.unsupported import SAY_NOTHING_ON_LOAD, UnsupportedFields, refuse_new_start

logger = logging.getLogger("npora")

# Keys of the program that wrote the file: how PEFT runs, and when its first versions merged.
_OF_PROGRAMS = ("runtime_config", "merge_weights")


@dataclass
class LoraConfig(UnsupportedFields):
    """What a LoRA adapter is: which layers it goes on, its rank and its scale (Hu et al., 2021).

    r : the rank
    lora_alpha : the update is scaled by s = lora_alpha / r (by lora_alpha / √r with `use_rslora`, Kalajdzievski 2023)
    lora_dropout : probability of dropping an input of the adapter, in training
    target_modules : names, each of a module or of its last path components, in a list, tuple or set; a string that is
        one such name, or a regular expression for the whole path; "all-linear"; None: the model's own default
    exclude_modules : taken out again, same forms
    bias : which biases of the base train too: "none", "all", "lora_only" (those of the targets)
    modules_to_save : modules trained as a whole copy and saved with the adapter; a classification task adds its head
    init_lora_weights : True: A ~ U(±1/√in), B = 0; "gaussian": A ~ N(0, 1/r²), B = 0; False: B is drawn like A
    layers_to_transform, layers_pattern : only these layers, counted by the first number in a path, or by the number
        after `layers_pattern`
    rank_pattern, alpha_pattern : {regular expression for the end of a path: r or lora_alpha}; the first that fits wins

    Raises
    ------
    ValueError: a value that makes no sense, or a field of PEFT's that npora does not support, by its name.
    TypeError: a field that there is not, with the name that was meant.
    """

    r: int = 8
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    fan_in_fan_out: bool = False
    bias: str = "none"
    use_rslora: bool = False
    modules_to_save: list[str] | None = None
    init_lora_weights: bool | str = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    task_type: str | None = None
    peft_type: str = "LORA"
    base_model_name_or_path: str | None = None
    revision: str | None = None
    inference_mode: bool = False
    auto_mapping: dict[str, Any] | None = None
    peft_version: str | None = None

    def __post_init__(self) -> None:
        self._normalise()
        self.check_new()
        if self.peft_type != "LORA":
            raise ValueError(f"peft_type {self.peft_type!r} is not supported: only LORA adapters are")
        for pattern, rank in {"r": self.r, **self.rank_pattern}.items():
            if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
                raise ValueError(f"the rank must be a whole number of at least 1; got {rank!r} for {pattern}")
        for pattern, alpha in {"lora_alpha": self.lora_alpha, **self.alpha_pattern}.items():
            if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
                raise ValueError(f"lora_alpha must be a finite number; got {alpha!r} for {pattern}")
        if not isinstance(self.lora_dropout, int | float) or not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout must lie in [0, 1); got {self.lora_dropout!r}")
        for name in ("use_rslora", "fan_in_fan_out", "inference_mode"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be True or False; got {getattr(self, name)!r}")
        if self.bias not in ("none", "all", "lora_only"):
            raise ValueError(f"bias must be 'none', 'all' or 'lora_only'; got {self.bias!r}")
        tasks = sorted(task.value for task in TaskType)
        if self.task_type is not None and self.task_type not in tasks:
            raise ValueError(f"task_type {self.task_type!r} is not one of {', '.join(tasks)}")
        if self.layers_to_transform == []:  # as PEFT has it
            self.layers_to_transform = None
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError("layers_pattern needs layers_to_transform")
        if self.layers_to_transform is not None and isinstance(self.target_modules, str):
            raise ValueError("layers_to_transform needs target_modules as a list of names, not a regular expression")

    def check_new(self) -> None:
        """Raise ValueError where a new adapter cannot be as this config says. One that is loaded may say more: how A
        and B began, for one thing."""
        self.refuse_unsupported()
        refuse_new_start(self.init_lora_weights)

    def _normalise(self) -> None:
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            if isinstance(value, str) and value.lower() != "all-linear" and re.fullmatch(r"[\w.]+", value):
                value = [value]  # a plain name is a list of one
            elif value is not None and not isinstance(value, str):
                value = _names(name, value)
            setattr(self, name, value)
        if isinstance(self.modules_to_save, str):
            self.modules_to_save = [self.modules_to_save]
        if self.modules_to_save is not None:
            self.modules_to_save = _names("modules_to_save", self.modules_to_save)  # PEFT's files may name one twice
        for name in ("task_type", "peft_type"):
            setattr(self, name, plain(getattr(self, name)))

    def scaling(self, r: int, alpha: float) -> float:
        """s, by which the product B A is multiplied."""
        return alpha / r**0.5 if self.use_rslora else alpha / r

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], ignore: Collection[str] = ()) -> LoraConfig:
        """A config from the keys of the `adapter_config.json` of an adapter that is there.

        ignore : keys to pass over. Of those that npora does not know, one that is null, false or empty says nothing; a
            number or a string is passed over with a word in the log, since in PEFT it qualifies what another field
            switches on

        Raises
        ------
        ValueError: as LoraConfig; an unknown key that may change what the adapter computes.
        """
        known = {f.name: f for f in fields(cls)}
        passed = {*known, *ignore, *_OF_PROGRAMS}
        unknown = {key: value for key, value in values.items() if key not in passed and value}
        if unsure := [
            key for key, value in unknown.items() if value is True or not isinstance(value, str | int | float)
        ]:
            raise ValueError(
                f"adapter_config.json: npora does not know the fields {', '.join(unsure)}, and cannot tell what they "
                "change: if they change nothing here, remove them, or load with "
                f"config=LoraConfig.from_pretrained(…, ignore={unsure})"
            )
        if unknown:
            logger.warning("adapter_config.json: passed over, since npora does not know them: %s", ", ".join(unknown))
        chosen = {key: value for key, value in values.items() if key in known and key not in ignore}
        for key in [key for key, value in chosen.items() if value is None and known[key].default is not None]:
            del chosen[key]
        beginning = {key: chosen.pop(key) for key in SAY_NOTHING_ON_LOAD if key in chosen}
        config = cls(**chosen)
        for key, value in beginning.items():
            setattr(config, key, value)
        return config

    def to_dict(self) -> dict[str, Any]:
        """The keys of PEFT's `adapter_config.json`, in a form that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike[str], ignore: Collection[str] = (), **where: Any
    ) -> LoraConfig:
        """The config of an adapter: a directory, an output of finetune, or a name on the hub.

        ignore : as of from_dict
        where : revision, cache_dir, local_files_only, subfolder

        Raises
        ------
        ValueError, as from_dict does; FileNotFoundError, as adapter_directory does.
        """
        path = os.path.join(adapter_directory(name_or_path, **where), CONFIG_NAME)
        values = read_json(path)
        if "peft_type" not in values:
            raise ValueError(f"{path} has no 'peft_type': it is not the config of an adapter")
        return cls.from_dict(values, ignore)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        write_json(os.path.join(directory, CONFIG_NAME), {**self.to_dict(), "inference_mode": True})


def _names(field_name: str, values: Iterable[Any]) -> list[str]:
    names = list(values)
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{field_name} holds names, which are strings; got {names!r}")
    return sorted(set(names))
