"""The header of a safetensors file, checked whole before any tensor is touched."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, BinaryIO

from npora.files.json import parse_json
from npora.files.refusal import shortened
from npora.files.regular import open_regular

_MOST_HEADER = 100_000_000
_FEW_VALUES = 300_000  # a tensor is about ten; of a large file there may be more
_LARGEST = 2**63
_MOST_AXES = 32  # tensors of networks have up to 6, arrays of NumPy up to 64

BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32,
    "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64, "C64": 64,
}  # fmt: skip


class SafetensorsError(ValueError):
    """A file that is not what the format says it must be."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: its dtype as the format names it, its shape, and its bytes [begin, end) of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """metadata, the tensors by name, and at which byte of the file the data starts."""

    metadata: dict[str, str]
    tensors: dict[str, TensorInfo]
    start: int


def read_header(path: str | os.PathLike[str]) -> Header:
    """Parse and check a file's header against the file's size.

    Raises
    ------
    OSError: no such file, or no regular one.  SafetensorsError: names the file, the tensor and the bytes at fault.
    """
    with open_regular(path) as file:
        return header_of(file, os.fspath(path))


def header_of(file: BinaryIO, name: str) -> Header:
    """The header of a file that is open, and is called so in errors. Raises as read_header."""
    size = os.fstat(file.fileno()).st_size
    if size < 8:
        raise SafetensorsError(f"{name} has {size} bytes; a safetensors file has at least 8: is it truncated?")
    length = int.from_bytes(file.read(8), "little")
    if length > _MOST_HEADER or length > size - 8:
        raise SafetensorsError(
            f"{name} says that its header has {length:,} bytes, and has {size:,} bytes in all: it is truncated, or "
            "not a safetensors file"
        )
    text = file.read(length)
    if not text.startswith(b"{"):
        raise SafetensorsError(f"{name}: the header must start with '{{', not {text[:1]!r}")
    if not text.rstrip(b" ").endswith(b"}"):
        raise SafetensorsError(f"{name}: the header may be padded with spaces only")
    try:
        entries = parse_json(text, f"the header of {name}", _FEW_VALUES + size // 20)
    except ValueError as error:
        raise SafetensorsError(str(error)) from None
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise SafetensorsError(f"{name}: __metadata__ must map strings to strings")
    tensors = {key: _tensor_info(name, key, entry) for key, entry in entries.items()}
    _check_tiling(name, tensors, size - 8 - length)
    return Header(metadata, tensors, 8 + length)


def _tensor_info(path: str, key: str, entry: Any) -> TensorInfo:
    where = f"{path}: tensor {shortened(key, 200)}"
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise SafetensorsError(f"{where} must have dtype, shape and data_offsets, and no more")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise SafetensorsError(f"{where} has the unknown dtype {shortened(dtype)}")
    if not _are_naturals(shape) or not _are_naturals(offsets) or len(offsets) != 2:
        raise SafetensorsError(
            f"{where}: shape and data_offsets must be whole numbers; got {shortened(shape)}, {shortened(offsets)}"
        )
    if len(shape) > _MOST_AXES or max([*shape, *offsets]) > _LARGEST:  # before anything is computed with them
        raise SafetensorsError(
            f"{where} has {len(shape)} axes, of which at most {_MOST_AXES} are read, or a number in its shape or "
            f"data_offsets that no file has room for: {shortened(shape)}, {shortened(offsets)}"
        )
    begin, end = offsets
    expected = math.prod(shape) * BITS[dtype] // 8
    if end - begin != expected:
        raise SafetensorsError(
            f"{where} of shape {tuple(shape)} and dtype {dtype} needs {expected:,} bytes, and its data_offsets "
            f"[{begin}, {end}] hold {end - begin:,}"
        )
    if math.prod(length for length in shape if length) >= _LARGEST // 16:  # of an empty one, which NumPy would refuse
        raise SafetensorsError(f"{where} has the shape {tuple(shape)}, which no file has room for")
    return TensorInfo(dtype, tuple(shape), begin, end)


def _are_naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)  # a bool is no int


def _check_tiling(path: str, tensors: dict[str, TensorInfo], size: int) -> None:
    """The tensors must lie one after another, from the first byte of the data to the last."""
    position = 0
    for key, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != position:
            kind = "overlaps the one before it" if info.begin < position else "leaves a gap before it"
            raise SafetensorsError(
                f"{path}: tensor {shortened(key, 200)} at [{info.begin}, {info.end}] {kind}, which ends at {position}"
            )
        position = info.end
    if position != size:
        kind = "is truncated" if position > size else "has bytes that no tensor owns"
        raise SafetensorsError(f"{path} {kind}: its tensors need {position:,} bytes of data, and it holds {size:,}")
