"""The tensors of a checkpoint's directory: one file, or shards and the index that says what is where."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from npora.files.json import parse_json
from npora.files.regular import read_regular
from npora.files.safetensors import Array, Forms, load_file

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[A-Za-z0-9._-]+\.safetensors")
_MOST_INDEX = 100_000_000  # bytes; the index of a model of 700e9 parameters has 9e6
_CONVERT = (
    'python -c "import glob, torch; from safetensors.torch import save_file; save_file({key: value.clone().contiguous()'
    " for file in glob.glob('pytorch_model*.bin') for key, value in torch.load(file, map_location='cpu', "
    "weights_only=True).items()}, 'model.safetensors')\""
)


def load_weights(
    directory: str | os.PathLike[str], dtype: npt.DTypeLike | None = None, forms: Forms = MappingProxyType({})
) -> dict[str, Array]:
    """Every tensor by name: of `model.safetensors`, or else of the shards in `model.safetensors.index.json`.

    They are read-only views of the memory-mapped files. dtype : what tensors of floating point become; those that are
    of another one, as a float16 checkpoint's are, are copied. bfloat16, which NumPy lacks, is float32 in any case,
    unless `forms` says what else (see load_file).

    Raises
    ------
    FileNotFoundError: neither file, or a shard that is missing.  ValueError: a file that is broken, or an index and
    shards that contradict each other; names the file and the tensor.
    """
    path = os.path.join(directory, SINGLE)
    index = os.path.join(directory, INDEX)
    if os.path.isfile(path):  # an index beside it is ignored, as transformers does
        tensors = load_file(path, forms)
    elif os.path.isfile(index):
        tensors = _load_shards(os.fspath(directory), index, forms)
    else:
        raise FileNotFoundError(f"there is no file {path}, and no {INDEX} either" + _pickles(directory))
    if dtype is not None:
        tensors = {key: _converted(tensor, np.dtype(dtype)) for key, tensor in tensors.items()}
    return tensors


def with_names(tensors: Mapping[str, Array], parts: Mapping[str, str]) -> dict[str, Array]:
    """The tensors under names in which each of these parts is replaced, one after the other."""
    found: dict[str, Array] = {}
    for name, tensor in tensors.items():
        for part, other in parts.items():
            name = name.replace(part, other)
        found[name] = tensor
    return found


def read_index(path: str | os.PathLike[str]) -> dict[str, str]:
    """In which shard each tensor is. Raises ValueError for a name that could lead out of the directory."""
    text = read_regular(path, _MOST_INDEX)
    shards = parse_json(text, os.fspath(path), 300_000 + len(text) // 20).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{os.fspath(path)}: weight_map must map tensors to files; got {str(shards)[:80]}")
    for key, shard in shards.items():
        if not isinstance(shard, str) or not _SHARD.fullmatch(shard):
            raise ValueError(
                f"{os.fspath(path)} places {key!r} in {shard!r}; a shard's name has letters, digits, '.', '_', '-', "
                "and ends with .safetensors"
            )
    return shards


def _load_shards(directory: str, index: str, forms: Forms) -> dict[str, Array]:
    places = read_index(index)
    tensors: dict[str, Array] = {}
    found: dict[str, str] = {}
    for shard in sorted(set(places.values())):
        first = next(key for key, place in places.items() if place == shard)
        for key, tensor in load_file(_inside(directory, shard, first), forms).items():
            if key in found:
                raise ValueError(f"{directory}: tensor {key!r} is in {found[key]} and in {shard}; it must be in one")
            if key not in places:
                raise ValueError(f"{directory}: {shard} holds tensor {key!r}, which {INDEX} does not name")
            found[key] = shard
            tensors[key] = tensor
    for key, shard in places.items():
        if found.get(key) != shard:
            where = f"; {found[key]} does" if key in found else ""
            raise ValueError(f"{index} places tensor {key!r} in {shard}, which does not hold it{where}")
    return tensors


def _inside(directory: str, shard: str, key: str) -> Path:
    """The shard's path; a link may not lead out of the directory, or in the hub's cache out of the repository."""
    path = Path(directory, shard)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}, in which {INDEX} places {key!r} among others")
    home, target = Path(directory).resolve(), path.resolve()
    # The hub's cache: snapshots/COMMIT/NAME is a link to blobs/HASH, two levels up.
    blobs = [home.parents[1] / "blobs"] if home.parent.name == "snapshots" else []
    if not any(target.is_relative_to(root) for root in (home, *blobs)):
        raise ValueError(f"{path} is a link that leads out of the directory, to {target}: put the file itself there")
    return path


def _converted(tensor: Array, dtype: np.dtype[np.generic]) -> Array:
    if tensor.dtype.kind != "f" or tensor.dtype == dtype:
        return tensor
    tensor = tensor.astype(dtype)
    tensor.flags.writeable = False
    return tensor


def _pickles(directory: str | os.PathLike[str]) -> str:
    names = sorted(path.name for path in Path(directory).glob("pytorch_model*.bin"))
    if not names:
        return ""
    return (
        f". {names[0]} is a pickle, which can run any code when it is read; npora never reads one. Where you trust it, "
        f"convert it, in that directory and with torch installed: {_CONVERT}"
    )
