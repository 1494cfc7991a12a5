"""LoraConfig: PEFT's fields, names and defaults."""

from __future__ import annotations

import enum
import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from npora.files import read_json, write_json
from npora.lora.unsupported import UnsupportedFields

CONFIG_NAME = "adapter_config.json"

TASK_HEADS: dict[str | None, tuple[str, ...]] = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}


class TaskType(str, enum.Enum):
    """The tasks by name, for scripts that write `TaskType.SEQ_CLS` in place of "SEQ_CLS"."""

    SEQ_CLS = "SEQ_CLS"
    SEQ_2_SEQ_LM = "SEQ_2_SEQ_LM"
    CAUSAL_LM = "CAUSAL_LM"
    TOKEN_CLS = "TOKEN_CLS"
    QUESTION_ANS = "QUESTION_ANS"
    FEATURE_EXTRACTION = "FEATURE_EXTRACTION"


_TASKS = {*TaskType, None}


@dataclass
class LoraConfig(UnsupportedFields):
    """What a LoRA adapter is: which layers it goes on, its rank and its scale (Hu et al., 2021).

    r : the rank
    lora_alpha : the update is scaled by s = lora_alpha / r (by lora_alpha / √r with `use_rslora`, Kalajdzievski 2023)
    lora_dropout : probability of dropping an input of the adapter, in training
    target_modules : a list of names, each of a module or of its last path components; a string that is one such name,
        or a regular expression for the whole path; "all-linear"; None: the model's own default
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
        self.refuse_unsupported()
        if self.peft_type != "LORA":
            raise ValueError(f"peft_type {self.peft_type!r} is not supported: only LORA adapters are")
        for pattern, rank in {"r": self.r, **self.rank_pattern}.items():
            if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
                raise ValueError(f"the rank must be a whole number of at least 1; got {rank!r} for {pattern}")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout must lie in [0, 1); got {self.lora_dropout}")
        if self.bias not in ("none", "all", "lora_only"):
            raise ValueError(f"bias must be 'none', 'all' or 'lora_only'; got {self.bias!r}")
        if self.init_lora_weights not in (True, False, "gaussian"):
            raise ValueError(
                f"init_lora_weights={self.init_lora_weights!r} is not supported: use True, False or 'gaussian'"
            )
        if self.task_type not in _TASKS:
            names = ", ".join(sorted(task.value for task in TaskType))
            raise ValueError(f"task_type {self.task_type!r} is not one of {names}")
        if self.layers_pattern is not None and self.layers_to_transform is None:
            raise ValueError("layers_pattern needs layers_to_transform")
        if self.layers_to_transform is not None and isinstance(self.target_modules, str):
            raise ValueError("layers_to_transform needs target_modules as a list of names, not a regular expression")

    def _normalise(self) -> None:
        if isinstance(self.task_type, enum.Enum):  # PEFT's own too
            self.task_type = self.task_type.value
        for name in ("target_modules", "exclude_modules"):
            value = getattr(self, name)
            if isinstance(value, str) and value.lower() != "all-linear" and re.fullmatch(r"[\w.]+", value):
                value = [value]  # a plain name is a list of one
            elif value is not None and not isinstance(value, str):
                value = sorted(set(value))
            setattr(self, name, value)
        if self.modules_to_save is not None:
            self.modules_to_save = sorted(set(self.modules_to_save))  # PEFT's files may name one twice

    def scaling(self, r: int, alpha: float) -> float:
        """s, by which the product B A is multiplied."""
        return alpha / r**0.5 if self.use_rslora else alpha / r

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LoraConfig:
        """A config from the keys of `adapter_config.json`. Raises ValueError for an unknown key that says something."""
        known = {f.name for f in fields(cls)}
        unknown = [key for key, value in values.items() if key not in known and value]
        if unknown:
            raise ValueError(
                f"adapter_config.json: npora does not know the fields {', '.join(unknown)}, and cannot tell what they "
                "change: if they change nothing here, remove them"
            )
        plain = {key: value for key, value in values.items() if key in known}
        for f in fields(cls):
            if plain.get(f.name, MISSING) is None and f.default_factory is not MISSING:
                del plain[f.name]
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """The keys of PEFT's `adapter_config.json`, in a form that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_pretrained(cls, directory: str | os.PathLike[str]) -> LoraConfig:
        path = os.path.join(directory, CONFIG_NAME)
        values = read_json(path)
        if "peft_type" not in values:
            raise ValueError(f"{path} has no 'peft_type': it is not the config of an adapter")
        return cls.from_dict(values)

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        write_json(os.path.join(directory, CONFIG_NAME), {**self.to_dict(), "inference_mode": True})
