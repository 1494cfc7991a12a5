"""Writing a GGUF file."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.files.atomic import write_atomically
from npora.files.gguf_header import ALIGNMENT, ARRAY, KINDS, MAGIC, SCALARS, STRING, VERSIONS

Array = npt.NDArray[Any]

_NUMBERS = {kind.name: number for number, kind in KINDS.items()}
_CODES = {code: number for number, code in SCALARS.items()}
_ARRAYS = {np.dtype(code): number for number, code in SCALARS.items()}
_PADDING = bytes(ALIGNMENT)


@dataclass(frozen=True)
class Blocks:
    """A tensor to write: its kind, its shape as NumPy has it, and the function that gives its bytes when their turn
    comes, as one array after another."""

    kind: str
    shape: tuple[int, ...]
    pieces: Callable[[], Iterable[Array]]

    @property
    def nbytes(self) -> int:
        kind = KINDS[_NUMBERS[self.kind]]
        return math.prod(self.shape) // kind.length * kind.size


def save_gguf(path: str | os.PathLike[str], metadata: Mapping[str, Any], tensors: Mapping[str, Blocks]) -> None:
    """Write a file atomically, its tensors in the order in which they come.

    metadata : strings, bools, ints (32 bits, unsigned where they can be), floats (32 bits), lists of strings, and
        arrays of numbers in the dtype that they have

    Raises
    ------
    TypeError: a value of another type.  ValueError: a tensor that gives another number of bytes than its shape says.
    """
    parts = [MAGIC, struct.pack("<IQQ", max(VERSIONS), len(tensors), len(metadata))]
    parts += [_string(key) + _value(key, value) for key, value in metadata.items()]
    offset = 0
    for name, tensor in tensors.items():
        axes = len(tensor.shape)
        parts.append(_string(name) + struct.pack(f"<I{axes}Q", axes, *tensor.shape[::-1]))
        parts.append(struct.pack("<IQ", _NUMBERS[tensor.kind], offset))
        offset += tensor.nbytes + -tensor.nbytes % ALIGNMENT
    header = b"".join(parts)

    def chunks() -> Iterator[Any]:
        yield header + _PADDING[: -len(header) % ALIGNMENT]
        for name, tensor in tensors.items():
            written = 0
            for piece in tensor.pieces():
                written += piece.nbytes
                yield np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data
            if written != tensor.nbytes:
                raise ValueError(f"tensor {name!r} gives {written:,} bytes, and needs {tensor.nbytes:,}")
            yield _PADDING[: -written % ALIGNMENT]

    write_atomically(path, chunks())


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(key: str, value: Any) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", STRING) + _string(value)
    if isinstance(value, bool):
        return struct.pack("<I?", _CODES["?"], value)
    if isinstance(value, int):
        code = "I" if 0 <= value < 2**32 else "i" if abs(value) <= 2**31 else "q"
        return struct.pack(f"<I{code}", _CODES[code], value)
    if isinstance(value, float):
        return struct.pack("<If", _CODES["f"], value)
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_string, value))
    if isinstance(value, np.ndarray) and value.dtype in _ARRAYS:
        raw = value.astype(value.dtype.newbyteorder("<")).tobytes()
        return struct.pack("<IIQ", ARRAY, _ARRAYS[value.dtype], value.size) + raw
    raise TypeError(f"{key} is a {type(value).__name__}, for which GGUF has no kind")
