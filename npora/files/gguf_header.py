"""The header of a GGUF file: what it says of its model, and where its tensors lie, checked before any is touched."""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from npora.files.refusal import shortened

MAGIC = b"GGUF"
VERSIONS = (2, 3)  # which lie alike; the first one counted in 32 bits
ALIGNMENT = 32  # unless general.alignment says another
_MOST_ITEMS = {"key": 65_535, "field": 50_000, "tensor": 100_000, "string": 20_000_000, "array of strings": 2_000_000}
_MOST_AXES = 4
_LARGEST = 2**62

# Of values: the number of each kind, as struct writes it, and its name. 8 is a string, 9 an array.
SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
STRING, ARRAY = 8, 9


class Kind(NamedTuple):
    """How a tensor's numbers lie: in blocks of `length` numbers, each of `size` bytes."""

    name: str
    length: int
    size: int


_KINDS = (
    (0, "F32", 1, 4), (1, "F16", 1, 2), (2, "Q4_0", 32, 18), (3, "Q4_1", 32, 20), (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24), (8, "Q8_0", 32, 34), (9, "Q8_1", 32, 40), (10, "Q2_K", 256, 84), (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144), (13, "Q5_K", 256, 176), (14, "Q6_K", 256, 210), (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66), (17, "IQ2_XS", 256, 74), (18, "IQ3_XXS", 256, 98), (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18), (21, "IQ3_S", 256, 110), (22, "IQ2_S", 256, 82), (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1), (25, "I16", 1, 2), (26, "I32", 1, 4), (27, "I64", 1, 8), (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56), (30, "BF16", 1, 2), (34, "TQ1_0", 256, 54), (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17), (40, "NVFP4", 64, 36), (41, "Q1_0", 128, 18),
)  # fmt: skip
KINDS = {
    number: Kind(name, length, size) for number, name, length, size in _KINDS
}  # ggml's, by the numbers that stand in the file


class GGUFError(ValueError):
    """A file that is not what the format says it must be, or holds what npora does not read."""


@dataclass(frozen=True)
class GGUFTensor:
    """One tensor: how its numbers lie, its shape as NumPy has it, and its bytes [begin, end) of the file."""

    kind: Kind
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class GGUFHeader:
    """metadata : numbers, bools, strings, lists of strings, and arrays of the others; tensors : by name"""

    metadata: dict[str, Any]
    tensors: dict[str, GGUFTensor]


def parse_header(data: Any, name: str) -> GGUFHeader:
    """The header of a file whose bytes, all of them, are `data`, and that is called `name` in errors.

    Raises
    ------
    GGUFError: names the file, and the field or the tensor at fault.
    """
    read = _Reader(data, name)
    read.where = "its beginning"
    if (magic := read.bytes(4)) != MAGIC:
        raise GGUFError(f"{name} is no GGUF file: it must begin with {MAGIC!r}, not {magic!r}")
    version = read.number("I")
    if version not in VERSIONS:
        hint = " (its bytes are the other way round)" if version in (v << 24 for v in VERSIONS) else ""
        raise GGUFError(f"{name}: version {version} of GGUF is not read{hint}; npora reads 2 and 3")
    tensors, fields = read.number("Q"), read.number("Q")
    read.at_most("tensor", tensors, least=32)  # without a name, of one axis
    read.at_most("field", fields, least=13)  # without a name, of one byte
    metadata = _fields(read, fields)
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 8 <= alignment <= 2**20 or alignment & (alignment - 1):
        raise GGUFError(f"{name}: general.alignment must be a power of 2 from 8 on; got {shortened(alignment)}")
    return GGUFHeader(metadata, _tensors(read, tensors, alignment))


class _Reader:
    """The bytes, one value after another; each is looked for before it is read."""

    def __init__(self, data: Any, name: str) -> None:
        self.data, self.name, self.at, self.where = data, name, 0, ""

    def bytes(self, length: int) -> bytes:
        self.need(length)
        self.at += length
        return bytes(self.data[self.at - length : self.at])

    def need(self, length: int) -> None:
        if length > len(self.data) - self.at:
            raise GGUFError(
                f"{self.name}: {self.where} needs {length:,} bytes from byte {self.at:,} on, and the file has "
                f"{len(self.data):,}: it is truncated, or lies"
            )

    def number(self, code: str) -> Any:
        self.need(struct.calcsize(f"<{code}"))
        (value,) = struct.unpack_from(f"<{code}", self.data, self.at)
        self.at += struct.calcsize(f"<{code}")
        return value

    def at_most(self, what: str, count: int, least: int) -> None:
        """Raise for more than are read, or than the rest of the file has room for at the `least` bytes each."""
        if count > _MOST_ITEMS[what] or count * least > len(self.data) - self.at:
            raise GGUFError(
                f"{self.name} says that {self.where} has {count:,} of {what}; at most {_MOST_ITEMS[what]:,} are read, "
                f"and the file has {len(self.data) - self.at:,} bytes for them"
            )

    def string(self, what: str = "string") -> str:
        length = self.number("Q")
        self.at_most(what, length, 1)
        try:
            return self.bytes(length).decode()
        except UnicodeDecodeError as error:
            raise GGUFError(f"{self.name}: {self.where} holds a text that is not UTF-8: {error}") from None

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self.array()
        if kind not in SCALARS:
            raise GGUFError(f"{self.name}: {self.where} is of the unknown kind {kind}")
        return self.number(SCALARS[kind])

    def array(self) -> Any:
        kind, count = self.number("I"), self.number("Q")
        if kind == STRING:
            self.at_most("array of strings", count, 8)
            return [self.string() for _ in range(count)]
        if kind not in SCALARS:  # no program nests them, and what is nested has no end
            what = "arrays" if kind == ARRAY else f"the unknown kind {kind}"
            raise GGUFError(f"{self.name}: {self.where} is an array of {what}, which npora does not read")
        dtype = np.dtype(SCALARS[kind]).newbyteorder("<")
        self.need(count * dtype.itemsize)
        values = np.frombuffer(self.data, dtype, count, self.at).astype(dtype.newbyteorder("="))
        self.at += count * dtype.itemsize
        return values


def _fields(read: _Reader, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for number in range(count):
        read.where = f"the name of field {number}"
        key = read.string("key")
        read.where = f"the field {shortened(key, 100)}"
        if key in metadata:
            raise GGUFError(f"{read.name}: {read.where} stands twice")
        metadata[key] = read.value(read.number("I"))
    return metadata


def _tensors(read: _Reader, count: int, alignment: int) -> dict[str, GGUFTensor]:
    found: dict[str, tuple[Kind, tuple[int, ...], int]] = {}
    for number in range(count):
        read.where = f"the name of tensor {number}"
        name = read.string("key")
        read.where = f"tensor {shortened(name, 100)}"
        if name in found:
            raise GGUFError(f"{read.name}: {read.where} stands twice")
        found[name] = _tensor(read)
    start, tensors = _up_to(read.at, alignment), {}
    position = 0
    for name, (kind, shape, offset) in sorted(found.items(), key=lambda item: item[1][2]):
        size = math.prod(shape) // kind.length * kind.size
        where = f"{read.name}: tensor {shortened(name, 100)}"
        if offset != position:
            raise GGUFError(f"{where} lies at {offset:,}; it must lie at {position:,}, behind the one before it")
        if start + offset + size > len(read.data):
            raise GGUFError(
                f"{where} of shape {shape} and kind {kind.name} ends at byte {start + offset + size:,}, and the file "
                f"has {len(read.data):,}: it is truncated"
            )
        tensors[name] = GGUFTensor(kind, shape, start + offset, start + offset + size)
        position = _up_to(offset + size, alignment)
    return tensors


def _tensor(read: _Reader) -> tuple[Kind, tuple[int, ...], int]:
    axes = read.number("I")
    if not 1 <= axes <= _MOST_AXES:
        raise GGUFError(f"{read.name}: {read.where} has {axes} axes, and GGUF has 1 to {_MOST_AXES}")
    shape = tuple(read.number("Q") for _ in range(axes))[::-1]  # the fastest stands first in the file
    number, offset = read.number("I"), read.number("Q")
    if (kind := KINDS.get(number)) is None:
        raise GGUFError(f"{read.name}: {read.where} is of the unknown kind {number}")
    if 0 in shape or math.prod(shape) > _LARGEST:
        raise GGUFError(f"{read.name}: {read.where} has the shape {shape}, which no file has room for")
    if shape[-1] % kind.length:
        raise GGUFError(
            f"{read.name}: {read.where} of shape {shape} is {kind.name}, whose rows are blocks of {kind.length}"
        )
    return kind, shape, offset


def _up_to(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def is_gguf(path: str | os.PathLike[str]) -> bool:
    """Whether this is a file, and not a directory or a name on the hub, that calls itself GGUF."""
    return os.fspath(path).lower().endswith(".gguf") and not os.path.isdir(path)
