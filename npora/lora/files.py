"""Adapters on disk: PEFT's two files, written atomically, and the record beside the tensors of what they mean."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npora.files import load_metadata, save_file
from npora.files.together import together
from npora.lora.config import PeftConfig
from npora.lora.folder import CONFIG_NAME, WEIGHTS_NAME, own_record, weights_path
from npora.lora.names import fits_pattern
from npora.lora.record import head_size
from npora.lora.starts.doubled import doubled, kept_start
from npora.machine.stored import in_pieces, is_quantized
from npora.nn.module import Array, Module, Parameter
from npora.stored import QUANTIZED

logger = logging.getLogger("npora")


@dataclass(frozen=True)
class Origin:
    """An Origin keeps what an adapter's file said beside its tensors, and the state that this was said of."""

    metadata: Mapping[str, str]
    state: str

    @classmethod
    def of(
        cls, directory: str, config: PeftConfig, parameters: Mapping[str, Parameter], said: Mapping[str, Any]
    ) -> Origin:
        return cls(load_metadata(weights_path(directory)), _state(config, parameters, said))


def save_adapter(
    directory: str,
    config: PeftConfig,
    parameters: Mapping[str, Parameter],
    base: Mapping[str, Array],
    said: Mapping[str, Any],
    origin: Origin | None = None,
) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`, both or none, and nothing else.

    An adapter that is still as it was loaded keeps what its file said of it: the same tensors then give the same bytes.

    said : what else is recorded: id2label, problem_type, notes
    """
    if origin is not None and origin.state == _state(config, parameters, said):
        metadata = origin.metadata
    else:
        name = config.base_model_name_or_path
        record = {**_meaning(config), "base_model_name_or_path": name, "base_sha256": digest(base), **said}
        if forms := _forms(base):
            record["base_forms"] = forms
        if start := kept_start(config):
            record["start"] = start
        metadata = {"format": "pt", "npora": _json(record)}
    written, tensors = doubled(config, {name: parameter.data for name, parameter in parameters.items()})
    with together(directory, CONFIG_NAME) as folder:
        save_file(tensors, os.path.join(folder, WEIGHTS_NAME), metadata)
        written.save_pretrained(folder)


def _meaning(config: PeftConfig) -> dict[str, Any]:
    """Return the fields that decide what the tensors mean. They are in the file's metadata too, which PEFT leaves
    alone: a config that no longer fits its tensors is then an error."""
    return {name: getattr(config, name) for name in config.meaning}


def _state(config: PeftConfig, parameters: Mapping[str, Parameter], said: Mapping[str, Any]) -> str:
    values = digest({name: parameter.data for name, parameter in parameters.items()})
    return _json({**_meaning(config), "values": values, **said})


def _json(value: Mapping[str, Any]) -> str:
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"an adapter's notes must be what JSON can hold; got {value.get('notes')!r}: {error}"
        ) from None


def check_meaning(path: str, config: PeftConfig, base: Mapping[str, Array]) -> None:
    """Raise ValueError where the file was saved with another config than is beside it now, or on another base, or on
    this one quantised to another form."""
    recorded = own_record(path)
    for name in config.meaning:
        if name in recorded and recorded[name] != getattr(config, name):
            raise ValueError(
                f"adapter_config.json says {name}={getattr(config, name)!r}, but {path} was saved with "
                f"{name}={recorded[name]!r}: the two files do not belong together"
            )
    theirs, own = recorded.get("base_forms", []), _forms(base)
    if "base_sha256" in recorded and theirs != own:
        said, found = (" and ".join(forms) or "plain floats" for forms in (theirs, own))
        way = f"with quantize={theirs[0]!r}" if theirs and {*theirs} <= {*QUANTIZED} else "from the GGUF file it was in"
        raise ValueError(
            f"{path} was trained on a base in {said}, and this one is in {found}: load the base "
            + (way if theirs else "without quantize")
        )
    if "base_sha256" in recorded and recorded["base_sha256"] != digest(base):
        raise ValueError(
            f"{path} was trained on another base model ({recorded.get('base_model_name_or_path')}): the SHA-256 of its "
            f"weights was {recorded['base_sha256']}, this base's is {digest(base)}"
        )


def base_name(model: Module) -> tuple[str | None, str | None]:
    """Return the name that a model was loaded under, and the revision where the name has one: org/name@revision."""
    name = getattr(model, "name_or_path", None)
    if not name or os.path.exists(name):
        return name or None, None
    name, _, revision = str(name).partition("@")
    return name, revision or None


def warn_of_another_base(config: PeftConfig, base_name: str | None, directory: str) -> None:
    """Log a warning where a file of PEFT's names another base. PEFT records no digest of it, and two names are too
    little to refuse by, since a local copy may have any."""
    trained_on = config.base_model_name_or_path
    if not trained_on or not base_name or "npora" in load_metadata(weights_path(directory)):
        return
    if _last_part(trained_on) != _last_part(base_name):
        logger.warning(
            "the adapter in %s was trained on '%s', and this model is '%s': make sure that they are the same",
            directory, trained_on, base_name,
        )  # fmt: skip


def warn_of_a_lost_order(config: PeftConfig, paths: Sequence[str], directory: str) -> None:
    """Log a warning where a file of PEFT's has several alphas for a layer: the first pattern that fits counts, and PEFT
    writes them sorted."""
    patterns: Mapping[str, float] = getattr(config, "alpha_pattern", None) or {}
    if len(set(patterns.values())) < 2 or "npora" in load_metadata(weights_path(directory)):
        return
    for path in paths:
        fitting = {pattern: alpha for pattern, alpha in patterns.items() if fits_pattern(pattern, path)}
        if len(set(fitting.values())) > 1:
            logger.warning(
                "alpha_pattern in %s has %s for %s, of which the first counts. PEFT writes patterns sorted: make sure "
                "that the order is the one that was meant",
                directory, " and ".join(f"{pattern!r}: {alpha:g}" for pattern, alpha in fitting.items()), path,
            )  # fmt: skip
            return


def check_same(existing: PeftConfig, loaded: PeftConfig, directory: str) -> None:
    """Raise ValueError where a file's adapter is of another method, rank or scale than the one it is loaded into."""
    if type(existing) is not type(loaded):
        raise ValueError(
            f"the adapter in {directory} is of {loaded.peft_type}, and this one of {existing.peft_type}: load it under "
            "another name, or put it in this one's place with hotswap_adapter"
        )
    for name in (name for name in existing.meaning if name not in existing.found):
        mine, theirs = getattr(existing, name), getattr(loaded, name, None)
        if mine != theirs:
            raise ValueError(f"the adapter in {directory} has {name}={theirs!r}, this one {name}={mine!r}")


def has_head(parameters: Mapping[str, Parameter]) -> bool:
    """Say whether a classifier's head is among these."""
    return head_size({name: parameter.shape for name, parameter in parameters.items()}) is not None


def take_labels(model_config: Any, record: Mapping[str, Any]) -> None:
    """Give a model the names of the classes that its adapter was trained for, where it has none of its own."""
    names = {int(key): str(name) for key, name in record.get("id2label", {}).items()}
    own = getattr(model_config, "id2label", None)
    if not names or own is None or names == own:
        return
    if all(name == f"LABEL_{number}" for number, name in own.items()):
        model_config.id2label, model_config.label2id = names, {name: number for number, name in names.items()}
    else:
        logger.warning("the adapter's classes are %s, and this model calls them %s", names, own)


def digest(arrays: Mapping[str, Array]) -> str:
    """Return the SHA-256 of names and values, the values as float32: a base has the same in whichever dtype it is read,
    and in whichever exact form it is stored. Of what is quantised it is over the form's name and the bytes."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array: Any = arrays[name]
        sha.update(f"{name} {array.shape}\n".encode())
        if is_quantized(array):
            sha.update(f"{array.form}\n".encode())
            sha.update(np.ascontiguousarray(array.bits).data)
            continue
        for piece in in_pieces(array):
            sha.update(np.ascontiguousarray(piece.real, dtype="<f4").data)
    return sha.hexdigest()


def _forms(base: Mapping[str, Any]) -> list[str]:
    """The quantised forms of a base's matrices."""
    return sorted({array.form for array in base.values() if is_quantized(array)})


def _last_part(name: str) -> str:
    return name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
