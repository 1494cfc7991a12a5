"""Say what a checkpoint or an adapter holds: tensors, shapes, parameters, bytes."""

from __future__ import annotations

import argparse
import math
import os

from npora.files import read_header, read_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="DIR", help="a directory with .safetensors files, or one such file")


def run(options: argparse.Namespace) -> None:
    directory = options.directory
    if os.path.isdir(directory):
        names = sorted(os.listdir(directory))
        paths = [os.path.join(directory, name) for name in names if name.endswith(".safetensors")]
        if not paths:
            raise ValueError(f"{directory} holds no .safetensors file")
        for name in ("config.json", "adapter_config.json"):
            if name in names:
                _print_config(os.path.join(directory, name))
    else:
        paths = [directory]
    for path in paths:
        _print_tensors(path)


def _print_config(path: str) -> None:
    print(path)
    for key, value in sorted(read_json(path).items()):
        if value not in (None, {}, [], False):
            print(f"  {key} = {value}")


def _print_tensors(path: str) -> None:
    header = read_header(path)
    print(path)
    width = max((len(name) for name in header.tensors), default=0)
    for name, info in sorted(header.tensors.items()):
        shape = "×".join(str(size) for size in info.shape) or "scalar"
        print(f"  {name:{width}}  {info.dtype:4}  {shape:>12}  {info.end - info.begin:>12,} bytes")
    parameters = sum(math.prod(info.shape) for info in header.tensors.values())
    print(f"  {len(header.tensors)} tensors, {parameters:,} parameters, {os.path.getsize(path):,} bytes")
