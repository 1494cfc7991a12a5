"""Say what a checkpoint or an adapter holds: config, tensors, shapes, parameters, bytes.

Of the --output of finetune it says what is in adapter/.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from typing import Any

from npora.commands.output import adapter_of
from npora.files import read_header, read_json
from npora.files.weights import INDEX, read_index
from npora.lora import read_record
from npora.lora.folder import WEIGHTS_NAME


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "directory",
        metavar="DIR",
        help="a directory with .safetensors files, the --output of finetune, or one such file",
    )


def run(options: argparse.Namespace) -> None:
    directory = options.directory
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


def _print_tensors(path: str) -> tuple[int, int, int]:
    header = read_header(path)
    print(path)
    width = max((len(name) for name in header.tensors), default=0)
    for name, info in sorted(header.tensors.items()):
        shape = "×".join(str(size) for size in info.shape) or "scalar"
        print(f"  {name:{width}}  {info.dtype:4}  {shape:>12}  {info.end - info.begin:>12,} bytes")
    parameters = sum(math.prod(info.shape) for info in header.tensors.values())
    size = os.path.getsize(path)
    print(f"  {len(header.tensors)} tensors, {parameters:,} parameters, {size:,} bytes")
    return len(header.tensors), parameters, size
