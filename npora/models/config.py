"""What a model's `config.json` says: what all families share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from npora.files import read_json
from npora.nn.functional import ACTIVATIONS
from npora.nn.readable import Readable

CONFIG_NAME = "config.json"
_Config = TypeVar("_Config", bound="PretrainedConfig")


@dataclass(kw_only=True)
class PretrainedConfig(Readable):
    """The fields of a `config.json` that decide what the model computes, with transformers' names and defaults.

    A family states, as class attributes: `model_type`; `aliases`, other names that a file may use for a field; `only`,
    the fields of which it computes one value alone: a file that says otherwise is refused by name.

    Raises
    ------
    ValueError: a size that is no positive whole number, an unknown activation, a feature that is not implemented.
    """

    model_type: ClassVar[str]
    aliases: ClassVar[Mapping[str, str]] = {}
    only: ClassVar[Mapping[str, Any]] = {}
    sizes: ClassVar[tuple[str, ...]] = ()
    activation_field: ClassVar[str] = "hidden_act"

    num_labels: int = 2
    problem_type: str | None = None
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        for name in (*self.sizes, "num_labels"):
            value = getattr(self, name)
            if type(value) is not int or value < (0 if "layer" in name else 1):
                raise ValueError(f"config: {name} must be a positive whole number; got {value!r}")
        activation = getattr(self, self.activation_field, "relu")
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"config: {self.activation_field} {activation!r} is not one of {', '.join(sorted(ACTIVATIONS))}"
            )

    def _divides(self, part: str, whole: str) -> None:
        """Raise unless the one size is a multiple of the other."""
        if getattr(self, whole) % getattr(self, part):
            raise ValueError(
                f"config: {whole} {getattr(self, whole)} is not a multiple of {part} {getattr(self, part)}"
            )

    @classmethod
    def from_dict(cls: type[_Config], values: Mapping[str, Any]) -> _Config:
        """A config from the keys of a `config.json`; those that change nothing here are passed over."""
        for name, expected in cls.only.items():
            if values.get(name, expected) != expected:
                raise ValueError(f"config: {name}={values[name]!r} is not supported; only {expected!r} is")
        known = {f.name for f in fields(cls)}
        named = {cls.aliases.get(key, key): value for key, value in values.items()}
        chosen = {key: value for key, value in named.items() if key in known}
        if "num_labels" not in values and values.get("id2label"):
            chosen["num_labels"] = len(values["id2label"])
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """The keys of a `config.json` that transformers reads back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        labels = values.pop("num_labels")
        values["id2label"] = {str(i): f"LABEL_{i}" for i in range(labels)}
        values["label2id"] = {f"LABEL_{i}": i for i in range(labels)}
        return {"model_type": self.model_type, **values, **self.only}


def read_config(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """`config.json` of a checkpoint."""
    return read_json(os.path.join(directory, CONFIG_NAME))
