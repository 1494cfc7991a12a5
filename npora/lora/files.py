"""Adapters on disk: PEFT's two files, written atomically and read strictly."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from npora.files import load_file, load_metadata, save_file
from npora.lora.config import LoraConfig
from npora.nn.module import Array, Parameter

logger = logging.getLogger("npora")

WEIGHTS_NAME = "adapter_model.safetensors"

# The fields that decide what the tensors mean. They are recorded beside the tensors too, in the file's metadata, which
# PEFT leaves alone: a config that no longer fits its tensors is then an error.
_MEANING = ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "base_model_name_or_path")


@dataclass(frozen=True)
class Origin:
    """What the file that an adapter was loaded from said beside its tensors, and the state that this was said of."""

    metadata: Mapping[str, str]
    state: str

    @classmethod
    def of(cls, directory: str | os.PathLike[str], config: LoraConfig, parameters: Mapping[str, Parameter]) -> Origin:
        return cls(load_metadata(os.path.join(directory, WEIGHTS_NAME)), _state(config, parameters))


def save_adapter(
    directory: str,
    config: LoraConfig,
    parameters: Mapping[str, Parameter],
    base: Mapping[str, Array],
    origin: Origin | None = None,
) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, and nothing else.

    An adapter that is still as it was loaded keeps what its file said of it: the same tensors then give the same bytes.
    """
    os.makedirs(directory, exist_ok=True)
    if origin is not None and origin.state == _state(config, parameters):
        metadata = origin.metadata
    else:
        record = {**_meaning(config), "base_sha256": digest(base)}
        metadata = {"format": "pt", "npora": json.dumps(record, sort_keys=True)}
    tensors = {name: parameter.data for name, parameter in parameters.items()}
    save_file(tensors, os.path.join(directory, WEIGHTS_NAME), metadata)
    config.save_pretrained(directory)


def _meaning(config: LoraConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in _MEANING}


def _state(config: LoraConfig, parameters: Mapping[str, Parameter]) -> str:
    values = digest({name: parameter.data for name, parameter in parameters.items()})
    return json.dumps({**_meaning(config), "values": values}, sort_keys=True)


def read_adapter(
    directory: str | os.PathLike[str],
    config: LoraConfig,
    parameters: Mapping[str, Parameter],
    base: Mapping[str, Array],
    below: Mapping[str, Parameter],
) -> list[tuple[Parameter, Array]]:
    """Each parameter with its value from the file, in the parameter's dtype. Raises ValueError as load_adapter says.

    below : the base's weights below adapters, by their names in the whole model. PEFT saves such a weight beside the
        adapter where the target is a model's embedding or projection; it must then be this base's.
    """
    path = os.path.join(directory, WEIGHTS_NAME)
    tensors = {name: tensor for name, tensor in load_file(path).items() if not _is_copy(name)}
    copied = [name for name in tensors if name in below and name not in parameters]
    problems = [
        f"{name} is not this base's"
        for name in copied
        if not np.array_equal(tensors.pop(name).astype(below[name].dtype), below[name].data)
    ]
    problems += [f"missing: {name}" for name in parameters if name not in tensors]
    problems += [f"unexpected: {name}" for name in tensors if name not in parameters]
    problems += [
        f"{name} has shape {tensors[name].shape}, expected {parameter.shape}"
        for name, parameter in parameters.items()
        if name in tensors and tensors[name].shape != parameter.shape
    ]
    if problems:
        raise ValueError(f"{path} does not fit this model and adapter_config.json: " + "; ".join(problems))
    _check_meaning(path, config, base)
    return [(parameter, np.array(tensors[name], dtype=parameter.dtype)) for name, parameter in parameters.items()]


def _is_copy(name: str) -> bool:
    """With bias="all" PEFT saves a head's biases twice more, under names of its own inner modules."""
    return not {"modules_to_save", "original_module"}.isdisjoint(name.split("."))


def _check_meaning(path: str, config: LoraConfig, base: Mapping[str, Array]) -> None:
    recorded: dict[str, Any] = json.loads(load_metadata(path).get("npora", "{}"))
    for name in _MEANING:
        if name in recorded and recorded[name] != getattr(config, name):
            raise ValueError(
                f"adapter_config.json says {name}={getattr(config, name)!r}, but {path} was saved with "
                f"{name}={recorded[name]!r}: the two files do not belong together"
            )
    if "base_sha256" in recorded and recorded["base_sha256"] != digest(base):
        raise ValueError(
            f"{path} was trained on another base model ({recorded['base_model_name_or_path']}): the SHA-256 of its "
            f"weights was {recorded['base_sha256']}, this base's is {digest(base)}"
        )


def warn_of_another_base(config: LoraConfig, base_name: str | None, directory: str | os.PathLike[str]) -> None:
    """PEFT records no digest of the base. All there is to compare are the last parts of two names: too little to
    refuse by, since a local copy may have any name."""
    trained_on = config.base_model_name_or_path
    if not trained_on or not base_name or "npora" in load_metadata(os.path.join(directory, WEIGHTS_NAME)):
        return
    if _last_part(trained_on) != _last_part(base_name):
        logger.warning(
            "the adapter in %s was trained on '%s', and this model is '%s': make sure that they are the same",
            os.fspath(directory), trained_on, base_name,
        )  # fmt: skip


def check_same(existing: LoraConfig, loaded: LoraConfig, directory: str | os.PathLike[str]) -> None:
    """Raise where a file's adapter has another rank or scale than the adapter it is loaded into."""
    for name in ("r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern"):
        mine, theirs = getattr(existing, name), getattr(loaded, name)
        if mine != theirs:
            raise ValueError(f"the adapter in {os.fspath(directory)} has {name}={theirs!r}, this one {name}={mine!r}")


def digest(arrays: Mapping[str, Array]) -> str:
    """SHA-256 over names and values, the values as float32, so that a base read in float64 is still the same base."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        sha.update(f"{name} {arrays[name].shape}\n".encode())
        sha.update(np.ascontiguousarray(arrays[name].real, dtype="<f4").data)
    return sha.hexdigest()


def _last_part(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
