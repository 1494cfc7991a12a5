"""Say what a checkpoint, an adapter or a GGUF file holds: config, tensors, shapes, parameters, bytes.

Of the --output of finetune it says what is in adapter/.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.commands.output import adapter_of
from npora.files import read_header, read_json
from npora.files.gguf import read_gguf_header
from npora.files.gguf_header import is_gguf
from npora.files.refusal import shortened
from npora.files.weights import INDEX, read_index
from npora.lora import read_record
from npora.lora.folder import WEIGHTS_NAME


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory",
        metavar="DIR",
        help="a directory with .safetensors files, the --output of finetune, or one such file, or a .gguf",
    )


def run(options: argparse.Namespace) -> None:
    directory = options.directory
    if is_gguf(directory):
        _print_gguf(directory)
        return
    if os.path.isdir(directory):
        names = sorted(os.listdir(directory))
        if not any(name.endswith(".safetensors") for name in names) and os.path.isdir(adapter_of(directory)):
            directory = adapter_of(directory)
            names = sorted(os.listdir(directory))
        index = os.path.join(directory, INDEX)
        shards = set(read_index(index).values()) if INDEX in names else set()  # one that is missing is an error below
        files = sorted(shards.union(name for name in names if name.endswith(".safetensors")))
        paths = [os.path.join(directory, name) for name in files]
        if not paths:
            raise ValueError(f"{directory} holds no .safetensors file")
        for name in ("config.json", "adapter_config.json"):
            if name in names:
                _print_config(os.path.join(directory, name))
        if "adapter_config.json" in names and WEIGHTS_NAME in names:
            print(f"{os.path.join(directory, WEIGHTS_NAME)}, as npora noted beside its tensors")
            _print_values(read_record(directory))
    else:
        paths = [directory]
    totals = [_print_tensors(path) for path in paths]
    if len(paths) > 1:
        tensors, parameters, size = (sum(column) for column in zip(*totals, strict=True))
        print(f"{len(paths)} files, {tensors:,} tensors, {parameters:,} parameters, {size:,} bytes")


def _print_config(path: str) -> None:
    print(path)
    _print_values(read_json(path))


def _print_values(values: Mapping[str, Any]) -> None:
    for key, value in sorted(values.items()):
        if value not in (None, {}, [], False):
            print(f"  {key} = {value}")


def _print_gguf(path: str) -> None:
    header = read_gguf_header(path)
    print(path)
    for key, value in header.metadata.items():
        if isinstance(value, list | np.ndarray):
            print(f"  {key} = {len(value):,} values")
        else:
            print(f"  {key} = {shortened(value, 100) if isinstance(value, str) and len(value) > 100 else value}")
    _print_infos(path, {name: (t.kind.name, t.shape, t.end - t.begin) for name, t in header.tensors.items()})


def _print_tensors(path: str) -> tuple[int, int, int]:
    tensors = read_header(path).tensors
    print(path)
    return _print_infos(path, {name: (info.dtype, info.shape, info.end - info.begin) for name, info in tensors.items()})


def _print_infos(path: str, tensors: Mapping[str, tuple[str, tuple[int, ...], int]]) -> tuple[int, int, int]:
    """Of each tensor its dtype, shape and bytes. Returns how many there are, and their parameters and bytes."""
    width = max((len(name) for name in tensors), default=0)
    for name, (dtype, axes, size) in sorted(tensors.items()):
        shape = "×".join(str(length) for length in axes) or "scalar"
        print(f"  {name:{width}}  {dtype:4}  {shape:>12}  {size:>12,} bytes")
    parameters = sum(math.prod(axes) for _, axes, _ in tensors.values())
    size = os.path.getsize(path)
    print(f"  {len(tensors)} tensors, {parameters:,} parameters, {size:,} bytes")
    return len(tensors), parameters, size
