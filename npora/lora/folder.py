"""Where an adapter is, and what its files say of themselves before a model is there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from npora.files import read_header, resolve
from npora.files.json import parse_json

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
PREFIX = "base_model.model."
_Value = TypeVar("_Value")
_OF_AN_ADAPTER = re.compile(r"(?<=\.lora_[AB])\.([^.]+)\.(?=weight$)")
_PICKLE = "adapter_model.bin"
_CONVERT = (
    'python -c "import torch; from safetensors.torch import save_file; save_file({key: value.clone().contiguous() for '
    f"key, value in torch.load('{_PICKLE}', map_location='cpu', weights_only=True).items()}}, '{WEIGHTS_NAME}')\""
)
# How the names of a classifier's last layer end, in every family.
_HEADS = tuple(
    f".{head}.{layer}"
    for head in ("classifier", "score", "classification_head")
    for layer in ("weight", "out_proj.weight")
)


def adapter_directory(
    name_or_path: str | os.PathLike[str],
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    subfolder: str | None = None,
) -> str:
    """The directory with an adapter's two files: `name_or_path` itself; its folder `adapter`, where it is an output of
    `npora finetune`; or the hub's snapshot of that name. `subfolder` is a folder in it, where PEFT saves an adapter
    that is not named `default`.

    Raises
    ------
    FileNotFoundError: no such directory or name, or no adapter there.  The other errors are npora.files.resolve's.
    """
    root = resolve(name_or_path, revision, cache_dir, local_files_only=local_files_only)
    places = [root, os.path.join(root, "adapter")] if subfolder is None else [os.path.join(root, subfolder)]
    for place in places:
        if os.path.isfile(os.path.join(place, CONFIG_NAME)):
            return place
    if not os.path.isdir(places[0]):
        raise FileNotFoundError(f"there is no directory {places[0]}")
    others = sorted(path.parent.name for path in Path(places[0]).glob(f"*/{CONFIG_NAME}"))
    hint = f"; its folders {', '.join(others)} hold adapters: name one of them" if others else ""
    if not others and os.path.isfile(os.path.join(places[0], "config.json")):
        hint = "; it holds a whole model, which from_pretrained of a model class reads"
    raise FileNotFoundError(
        f"there is no file {os.path.join(places[0], CONFIG_NAME)}: {places[0]} holds no adapter{hint}"
    )


def weights_path(directory: str | os.PathLike[str]) -> str:
    """The file of an adapter's tensors. Raises FileNotFoundError, with the way to convert a pickle."""
    path = os.path.join(directory, WEIGHTS_NAME)
    if os.path.isfile(path):
        return path
    if os.path.isfile(os.path.join(directory, _PICKLE)):
        raise FileNotFoundError(
            f"there is no file {path}. {_PICKLE} is a pickle, which can run any code when it is read; npora never "
            f"reads one. Where you trust it, convert it, in that directory and with torch installed: {_CONVERT}"
        )
    where = ""
    if Path(directory).absolute().parent.name == "snapshots":  # of the hub's cache, into which no pickle is fetched
        where = (
            f". Where its repository has an {_PICKLE}: that is a pickle, which npora never reads. Where you trust it, "
            f"download it into a folder with {CONFIG_NAME}, and convert it there: {_CONVERT}"
        )
    raise FileNotFoundError(f"there is no file {path}{where}")


def own_record(path: str) -> dict[str, Any]:
    """What npora wrote beside the tensors, in the metadata that PEFT leaves alone; empty in a file of PEFT's."""
    text = read_header(path).metadata.get("npora", "{}")
    return parse_json(text.encode(), f"the npora record of {path}")


def canonical(tensors: Mapping[str, _Value], path: str) -> dict[str, _Value]:
    """The tensors under the names that PEFT's save_pretrained gives them, whichever way they were saved.

    A file may repeat the prefix base_model.model. or lack it, and, written from a state dict, it has the adapter's own
    name in the names. With bias="all" PEFT saves a head's biases twice more, under names of its own inner modules;
    those are left out.

    Raises
    ------
    ValueError: tensors of several adapters, or two that have one name then.
    """
    adapters = {found[1] for name in tensors if (found := _OF_AN_ADAPTER.search(name))}
    if len(adapters) > 1:
        raise ValueError(
            f"{path} holds tensors of several adapters, {', '.join(sorted(adapters))}: save each by itself"
        )
    adapter = next(iter(adapters), None)
    result: dict[str, _Value] = {}
    prefix = "" if any(name.startswith(PREFIX) for name in tensors) else PREFIX
    for name, tensor in tensors.items():
        plain = prefix + name
        while plain.startswith(2 * PREFIX):
            plain = plain.removeprefix(PREFIX)
        if adapter is not None:
            plain = _OF_AN_ADAPTER.sub(r".", plain).replace(f".modules_to_save.{adapter}.", ".")
        if {"modules_to_save", "original_module"}.isdisjoint(plain.split(".")):
            if plain in result:
                raise ValueError(f"{path} holds {plain} under two names, one of them {name}")
            result[plain] = tensor
    return result


def read_record(
    name_or_path: str | os.PathLike[str],
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
) -> dict[str, Any]:
    """What an adapter's file says of the task, so that a model can be built that it fits.

    num_labels : the number of classes of the head that it brings, by the head's tensor; None where it brings none
    id2label, problem_type : as the base's config had them, or None where the file does not say, as PEFT's do not
    notes : what the program that saved it added
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
    }


def head_size(shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """How many classes the head has that is among these tensors."""
    return next((shape[0] for name, shape in shapes.items() if ("." + name).endswith(_HEADS) and shape), None)
