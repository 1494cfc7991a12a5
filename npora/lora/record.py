"""What an adapter's file holds and says: its tensors under PEFT's names, and the task that it was trained for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from npora.files import read_header
from npora.lora.folder import PREFIX, adapter_directory, own_record, weights_path
from npora.lora.methods import METHODS

_Value = TypeVar("_Value")
_REPEATED = re.compile(rf"^(?:{re.escape(PREFIX)})+")
_TENSORS = [tensor for method in METHODS for tensor in method.tensors.values()]
_IN_FILES = tuple(f".{tensor.file_name}" for tensor in _TENSORS if tensor.file_name)
_NOT_IN_FILES = tuple(f".{tensor.short_name}" for tensor in _TENSORS if tensor.file_name is None)
# How the names of a classifier's last layer end, in every family.
_HEADS = tuple(
    f".{head}.{layer}"
    for head in ("classifier", "score", "classification_head")
    for layer in ("weight", "out_proj.weight")
)


def canonical(tensors: Mapping[str, _Value], path: str) -> dict[str, _Value]:
    """Return the tensors under the names that PEFT's save_pretrained gives them, whichever way they were saved.

    A file may repeat the prefix base_model.model. or lack it, and, written from a state dict, it has the adapter's own
    name in the names. With bias="all" PEFT saves a head's biases twice more, under names of its own inner modules;
    those are left out.

    Raises
    ------
    ValueError: tensors of several adapters, or two that have one name then.
    """
    adapters = {live[1] for name in tensors if (live := _live(name))}
    if len(adapters) > 1:
        raise ValueError(
            f"{path} holds tensors of several adapters, {', '.join(sorted(adapters))}: save each by itself"
        )
    adapter = next(iter(adapters), None)
    result: dict[str, _Value] = {}
    prefix = "" if any(name.startswith(PREFIX) for name in tensors) else PREFIX
    for name, tensor in tensors.items():
        plain = _REPEATED.sub(PREFIX, prefix + name)
        if adapter is not None:
            live = _live(plain)
            plain = live[0] if live else plain.replace(f".modules_to_save.{adapter}.", ".")
        if plain.endswith(_NOT_IN_FILES):
            continue
        if {"modules_to_save", "original_module"}.isdisjoint(plain.split(".")):
            if plain in result:
                raise ValueError(f"{path} holds {plain} under two names, one of them {name}")
            result[plain] = tensor
    return result


def _live(name: str) -> tuple[str, str] | None:
    """Return a tensor's name in a file, and its adapter's, where the name is that of the tensor in a model, as in
    `…query.lora_A.default.weight`; None of any other name."""
    if name.endswith(_IN_FILES):  # "lora_A.weight", which is not AdaLoRA's lora_A of an adapter called weight
        return None
    for tensor in _TENSORS:
        before, after = map(re.escape, tensor.live.split(".{}"))
        if found := re.fullmatch(rf"(.+\.){before}\.([^.]+){after}", name):
            return f"{found[1]}{tensor.file_name or tensor.short_name}", found[2]
    return None


def read_record(
    name_or_path: str | os.PathLike[str],
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> dict[str, Any]:
    """Read what an adapter's file says of the task, so that a model can be built that it fits.

    num_labels : the number of classes of the head that it brings, by the head's tensor; None where it brings none
    id2label, problem_type : as the base's config had them, or None where the file does not say, as PEFT's do not
    notes : what the program that saved it added
    base_forms : the quantised forms that matrices of its base were in, as ["nf4"]: it belongs on those
    """
    path = weights_path(adapter_directory(name_or_path, revision, cache_dir, local_files_only))
    record = own_record(path)
    labels = record.get("id2label")
    tensors = canonical({name: info.shape for name, info in read_header(path).tensors.items()}, path)
    return {
        "num_labels": head_size(tensors),
        "id2label": {int(key): name for key, name in labels.items()} if labels else None,
        "problem_type": record.get("problem_type"),
        "notes": record.get("notes", {}),
        "base_forms": record.get("base_forms", []),
    }


def head_size(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Return how many classes the head has that is among these tensors."""
    return next((shape[0] for name, shape in shapes.items() if ("." + name).endswith(_HEADS) and shape), None)
