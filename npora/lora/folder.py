"""Where an adapter is, and what its files say of themselves before a model is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from npora.files import read_header, resolve
from npora.files.json import parse_json
from npora.files.kinds import called, is_of_kind
from npora.files.refusal import shortened

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"
PREFIX = "base_model.model."
_RECORD = {
    "id2label": "dict[str, Any]", "problem_type": "str", "notes": "dict[str, Any]", "base_sha256": "str",
    "start": "str", "base_forms": "list[str]",
}  # fmt: skip
_PICKLE = "adapter_model.bin"
_CONVERT = (
    'python -c "import torch; from safetensors.torch import save_file; save_file({key: value.clone().contiguous() for '
    f"key, value in torch.load('{_PICKLE}', map_location='cpu', weights_only=True).items()}}, '{WEIGHTS_NAME}')\""
)


def adapter_directory(
    name_or_path: str | os.PathLike[str],
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    subfolder: str | None = None,
) -> str:
    """Find the directory with an adapter's two files: `name_or_path` itself; its folder `adapter`, where `npora
    finetune` wrote it; or the hub's snapshot of that name. `subfolder` is a folder in it, where PEFT saves an adapter
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
    """Return the file of an adapter's tensors. Raises FileNotFoundError, with the way to convert a pickle."""
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
    """Read what npora wrote beside the tensors, in the metadata that PEFT leaves alone: nothing in a file of PEFT's.

    Raises
    ------
    ValueError: what npora does not write there.
    """
    text = read_header(path).metadata.get("npora", "{}")
    what = f"the npora record of {path}"
    record = parse_json(text.encode(), what)
    for name, kind in _RECORD.items():
        if not is_of_kind(record.get(name), f"{kind} | None"):
            raise ValueError(f"{what}: {name} must be {called(kind)}; got {shortened(record[name])}")
    if wrong := [key for key in record.get("id2label") or () if not (key.isdecimal() and len(key) < 10)]:
        raise ValueError(f"{what}: id2label must map 0, 1, … to names; got {shortened(wrong[0])}")
    return {name: value for name, value in record.items() if value is not None or name not in _RECORD}
