"""Tensors in a file that cannot run code: the safetensors format, read by memory map."""

from __future__ import annotations

import json
import mmap
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.files.atomic import write_atomically
from npora.files.header import BITS, Header, SafetensorsError, TensorInfo, header_of, read_header
from npora.files.regular import open_regular
from npora.machine.stored import Stored, in_pieces

Array = npt.NDArray[Any]
Forms = Mapping[str, Callable[[Array], Any]]

_DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "U16": "<u2", "F16": "<f2", "I32": "<i4", "U32": "<u4",
    "F32": "<f4", "F64": "<f8", "I64": "<i8", "U64": "<u8", "C64": "<c8",
}  # fmt: skip
_READ = {**_DTYPES, "BF16": "<u2"}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
# The package's own order of equally aligned dtypes, so that the same tensors give the same bytes.
_ORDER = ["U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16", "F8_E4M3", "F8_E5M2", "I8",
          "U8", "BOOL"]  # fmt: skip


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The strings that a file holds beside its tensors."""
    return read_header(path).metadata


def load_file(path: str | os.PathLike[str], forms: Forms = MappingProxyType({})) -> dict[str, Any]:
    """Every tensor by name, each a read-only view of the memory-mapped file; bfloat16, which NumPy lacks, as float32.

    forms : what is made of a dtype's tensors, by its name in the file: of "BF16" from the uint16 that they are

    Raises
    ------
    OSError: no such file, or no regular one.  SafetensorsError: a header that lies, a truncated
    file, a dtype that NumPy cannot hold.
    """
    with open_regular(path) as file:
        header = header_of(file, os.fspath(path))
        size = os.fstat(file.fileno()).st_size
        if size == header.start:  # no data at all; an empty map is not allowed
            data: Any = b"\0" * size
        else:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return {name: _tensor(path, name, info, data, header, forms) for name, info in header.tensors.items()}


def _tensor(path: str | os.PathLike[str], name: str, info: TensorInfo, data: Any, header: Header, forms: Forms) -> Any:
    count = (info.end - info.begin) * 8 // BITS[info.dtype]
    if info.dtype not in _READ:
        raise SafetensorsError(f"{os.fspath(path)}: tensor {name!r} is {info.dtype}, which NumPy cannot hold")
    array: Array = np.frombuffer(data, _READ[info.dtype], count, header.start + info.begin)
    if info.dtype == "BOOL" and array.view("u1").max(initial=0) > 1:
        raise SafetensorsError(f"{os.fspath(path)}: tensor {name!r} is BOOL and holds bytes that are neither 0 nor 1")
    if not array.flags.aligned:
        array = array.copy()
    if sys.byteorder == "big":
        array = array.astype(array.dtype.newbyteorder("="))
    array = array.reshape(info.shape)
    array.flags.writeable = False
    make = forms.get(info.dtype) or _MADE.get(info.dtype)
    return array if make is None else make(array)


def _widened(raw: Array) -> Array:
    array: Array = (raw.astype(np.uint32) << 16).view(np.float32)  # bfloat16 is float32's upper half
    array.flags.writeable = False
    return array


_MADE: Forms = {"BF16": _widened}


def save_file(
    tensors: Mapping[str, npt.ArrayLike | Stored],
    path: str | os.PathLike[str],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the tensors atomically, byte for byte as the `safetensors` package does. Any strides, any byte order; a
    stored tensor as it lies in memory, or as the floats that it gives where safetensors has no name for its form.

    Raises
    ------
    SafetensorsError: a name that the format reserves, a dtype that it has no name for, metadata that are not strings.
    """
    arrays = {name: _written(value) for name, value in tensors.items()}
    if "__metadata__" in arrays:
        raise SafetensorsError("'__metadata__' cannot be a tensor's name: the format reserves it")
    if not all(isinstance(text, str) for pair in (metadata or {}).items() for text in pair):
        raise SafetensorsError("metadata must map strings to strings")
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in _NAMES:
            raise SafetensorsError(f"tensor {name!r} is {array.dtype}, for which safetensors has no name")
    kind = {name: _NAMES[array.dtype.newbyteorder("<")] for name, array in arrays.items()}
    kind |= {name: value.kind for name, value in tensors.items() if isinstance(value, Stored) and value.kind}
    names = sorted(arrays, key=lambda name: (_ORDER.index(kind[name]), name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    position = 0
    for name in names:
        end = position + arrays[name].size * arrays[name].dtype.itemsize
        header[name] = {"dtype": kind[name], "shape": list(arrays[name].shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)

    def chunks() -> Iterator[Any]:
        yield len(text).to_bytes(8, "little")
        yield text
        for name in names:
            for piece in in_pieces(arrays[name]):
                flat = np.ascontiguousarray(piece, dtype=piece.dtype.newbyteorder("<")).reshape(-1)
                yield flat.view("u1").data

    write_atomically(path, chunks())


def _written(value: Any) -> Any:
    """What is written of a tensor: an array, or a stored matrix that is to be widened."""
    if isinstance(value, Stored):
        return value.bits if value.kind else value
    return np.asarray(value)
