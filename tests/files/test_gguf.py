"""The GGUF reader and writer: what goes in comes out, and a file that lies is an error, never anything else."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.files.gguf import load_gguf, read_gguf_header
from npora.files.gguf_header import KINDS, GGUFError, is_gguf
from npora.files.gguf_writer import Blocks, save_gguf

METADATA: dict[str, Any] = {
    "general.architecture": "llama", "a.whole": 7, "a.below": -3, "a.large": 2**33, "a.share": 0.5, "a.yes": True,
    "a.texts": ["", "é", "Ġ t"], "a.bytes": np.array([1, 255], np.uint8), "a.longs": np.array([-1, 2**40]),
    "a.floats": np.array([0.25], np.float32), "a.flags": np.array([True, False]),
}  # fmt: skip


def floats(array: Any) -> Blocks:
    array = np.asarray(array, np.float32)
    return Blocks("F32", array.shape, lambda: [array])


def raw(kind: str, shape: tuple[int, ...], data: bytes) -> Blocks:
    return Blocks(kind, shape, lambda: [np.frombuffer(data, np.uint8)])


def written(path: Path, **tensors: Blocks) -> Path:
    save_gguf(path / "x.gguf", METADATA, tensors)
    return path / "x.gguf"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    matrix, data = np.arange(15).reshape(3, 5), bytes(range(68))
    path = written(tmp_path, w=floats(matrix), blocks=raw("Q8_0", (2, 32), data), last=floats([1.5]))
    header, tensors = load_gguf(path, {"Q8_0": lambda bits: bits})
    assert header.metadata.keys() == METADATA.keys()
    for key, value in METADATA.items():
        found = header.metadata[key]
        assert type(found) is type(value) and np.array_equal(found, value)
        assert not isinstance(value, np.ndarray) or found.dtype == value.dtype
    assert tensors["w"].tolist() == matrix.tolist() and not tensors["w"].flags.writeable
    assert tensors["blocks"].shape == (2, 34) and tensors["blocks"].tobytes() == data
    assert tensors["last"].tolist() == [1.5] and header.tensors["last"].begin % 32 == 0


def test_a_file_without_tensors_is_read(tmp_path: Path) -> None:
    header, tensors = load_gguf(written(tmp_path), {})
    assert header.metadata["a.whole"] == 7 and not tensors


def test_a_kind_that_no_form_is_for_is_refused_by_its_name(tmp_path: Path) -> None:
    path = written(tmp_path, w=raw("Q2_K", (256,), bytes(84)))
    with pytest.raises(GGUFError, match=r"x\.gguf: tensor 'w' is Q2_K, which npora does not read; it reads F32, Q8_0"):
        load_gguf(path, {"Q8_0": lambda bits: bits})


def test_a_tensor_that_gives_other_bytes_than_it_says_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tensor 'w' gives 3 bytes, and needs 34"):
        written(tmp_path, w=raw("Q8_0", (32,), bytes(3)))
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match="a is a dict"):
        save_gguf(tmp_path / "x.gguf", {"a": {}}, {})


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def header(*parts: bytes, tensors: int = 0, fields: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, fields) + b"".join(parts)


def tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def padded(data: bytes, more: int) -> bytes:
    return data + bytes(-len(data) % 32 + more)


KEY = string(b"k")
LIES: list[tuple[bytes, str]] = [
    (b"", "its beginning needs 4 bytes"),
    (b"GGML" + bytes(40), "must begin with b'GGUF', not b'GGML'"),
    (header(version=1), "version 1 of GGUF is not read; npora reads 2 and 3"),
    (header(version=3 << 24), "the other way round"),
    (header()[:-1], "needs 8 bytes from byte 16 on, and the file has 23"),
    (header(tensors=10**6), "has 1,000,000 of tensor; at most 100,000"),
    (header(tensors=2), "2 of tensor; at most 100,000 are read, and the file has 0 bytes for them"),
    (header(bytes(31), tensors=1), "1 of tensor; at most 100,000 are read, and the file has 31 bytes for them"),
    (header(bytes(32), tensors=1), "tensor '' has 0 axes, and GGUF has 1 to 4"),
    (header(fields=2**60), "of field; at most 50,000 are read"),
    (header(bytes(12), fields=1), "has 1 of field; at most 50,000 are read, and the file has 12 bytes for them"),
    (header(string(b"k" * 70_000), bytes(20), fields=1), "the name of field 0 has 70,000 of key; at most 65,535 are"),
    (header(struct.pack("<Q", 2**63), bytes(20), fields=1), "the name of field 0 has 9,223,372,036,854,775,808"),
    (header(KEY, struct.pack("<Ib", 1, -1), KEY, struct.pack("<Ib", 1, -1), fields=2), "field 'k' stands twice"),
    (header(KEY, struct.pack("<I", 13), bytes(9), fields=1), "the field 'k' is of the unknown kind 13"),
    (header(string(b"k" * 300), struct.pack("<I", 13), bytes(9), fields=1), f"the field '{'k' * 98}… is of the"),
    (padded(header(tensor(b"w" * 300, (2,), 77), tensors=1), 99), f"tensor '{'w' * 98}… is of the unknown kind 77"),
    (padded(header(tensor(b"w" * 300, (8,)), tensors=1), 31), f"tensor '{'w' * 98}… of shape (8,) and kind F32 ends"),
    (header(KEY, struct.pack("<I", 10), bytes(3), fields=1), "the field 'k' needs 8 bytes"),
    (header(KEY, struct.pack("<I", 8), string(b"\xff\xfe"), fields=1), "the field 'k' holds a text that is not UTF-8"),
    (header(KEY, struct.pack("<IIQ", 9, 9, 1), bytes(20), fields=1), "'k' is an array of arrays"),
    (header(KEY, struct.pack("<IIQ", 9, 99, 1), bytes(20), fields=1), "'k' is an array of the unknown kind 99"),
    (header(KEY, struct.pack("<IIQ", 9, 0, 2**62), bytes(20), fields=1), "the field 'k' needs 4,611,686,018,427"),
    (header(KEY, struct.pack("<IIQ", 9, 10, 3), bytes(23), fields=1), "the field 'k' needs 24 bytes"),
    (header(KEY, struct.pack("<IIQ", 9, 8, 10**7), bytes(20), fields=1),
     "10,000,000 of array of strings; at most 2,000,000 are"),
    (header(KEY, struct.pack("<IQ", 8, 10**8), bytes(20), fields=1), "100,000,000 of string; at most 20,000,000 are"),
    (header(string(b"general.alignment"), struct.pack("<II", 4, 48), fields=1), "a power of 2 from 8 on; got 48"),
    (header(string(b"general.alignment"), struct.pack("<I?", 7, True), fields=1), "a power of 2 from 8 on; got True"),
    (padded(header(tensor(b"w", (2,) * 5), tensors=1), 999), "tensor 'w' has 5 axes"),
    (padded(header(tensor(b"w", (2,), 77), tensors=1), 99), "tensor 'w' is of the unknown kind 77"),
    (padded(header(tensor(b"w", (4, 0)), tensors=1), 99), "tensor 'w' has the shape (0, 4), which no file has room"),
    (padded(header(tensor(b"w", (2**31, 2**32)), tensors=1), 99), "which no file has room for"),
    (padded(header(tensor(b"w", (33,), 8), tensors=1), 99), "tensor 'w' of shape (33,) is Q8_0, whose rows are blocks"),
    (padded(header(tensor(b"w", (8,)), tensors=1), 31), "tensor 'w' of shape (8,) and kind F32 ends at byte"),
    (padded(header(tensor(b"w", (8,), 0, 32), tensors=1), 99), "tensor 'w' lies at 32; it must lie at 0"),
    (padded(header(tensor(b"v", (8,)), tensor(b"w", (8,), 0, 16), tensors=2), 99), "'w' lies at 16; it must lie at 32"),
    (padded(header(tensor(b"w", (8,)), tensor(b"w", (8,), 0, 32), tensors=2), 99), "tensor 'w' stands twice"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "said"), LIES, ids=[said for _, said in LIES])
def test_a_file_that_lies_is_refused_with_its_name_and_the_place(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    with pytest.raises(GGUFError) as error:
        read_gguf_header(path)
    assert said in str(error.value) and str(path) in str(error.value)


SCALARS = [
    (0, "B", 200), (1, "b", -100), (2, "H", 60_000), (3, "h", -30_000), (4, "I", 2**32 - 1), (5, "i", -(2**31)),
    (6, "f", 0.5), (7, "?", True), (10, "Q", 2**64 - 1), (11, "q", -(2**63)), (12, "d", 0.1),
]  # fmt: skip


@pytest.mark.parametrize("number, code, value", SCALARS)
@pytest.mark.parametrize("version", [2, 3])
def test_a_number_is_of_the_kind_that_the_file_says(
    tmp_path: Path, number: int, code: str, value: Any, version: int
) -> None:
    alone = KEY + struct.pack(f"<I{code}", number, value)
    several = string(b"several") + struct.pack(f"<IIQ3{code}", 9, number, 3, value, 0, value)  # up to the file's end
    (path := tmp_path / "x.gguf").write_bytes(header(alone, several, fields=2, version=version))
    metadata = read_gguf_header(path).metadata
    assert metadata["k"] == value and type(metadata["k"]) is type(value)
    np.testing.assert_array_equal(metadata["several"], np.array([value, 0, value], code), strict=True)


@pytest.mark.parametrize(
    "content, metadata",
    [
        (bytes(13), {"": 0}),
        (KEY + struct.pack("<IIQ", 9, 8, 3) + bytes(24), {"k": ["", "", ""]}),
        (KEY + struct.pack("<I", 8) + string(b"x" * 100), {"k": "x" * 100}),
        (string(b"x" * 65_535) + struct.pack("<IB", 0, 7), {"x" * 65_535: 7}),
    ],
    ids=["least", "strings", "string", "key"],
)
def test_what_ends_with_the_file_is_read(tmp_path: Path, content: bytes, metadata: dict[str, Any]) -> None:
    (path := tmp_path / "x.gguf").write_bytes(header(content, fields=1))
    assert read_gguf_header(path).metadata == metadata


def test_a_tensor_has_one_axis_at_least_and_four_at_most(tmp_path: Path) -> None:
    for shape in ((3,), (3, 1, 2, 1)):
        (path := tmp_path / "x.gguf").write_bytes(padded(header(tensor(b"w", shape), tensors=1), 4 * 6))
        assert read_gguf_header(path).tensors["w"].shape == shape[::-1]


# ggml's number of each kind, how many numbers are a block, and how many bits one of them takes.
BITS = {
    "F32": (0, 1, 32), "F16": (1, 1, 16), "Q4_0": (2, 32, 4.5), "Q4_1": (3, 32, 5), "Q5_0": (6, 32, 5.5),
    "Q5_1": (7, 32, 6), "Q8_0": (8, 32, 8.5), "Q8_1": (9, 32, 10), "Q2_K": (10, 256, 2.625), "Q3_K": (11, 256, 3.4375),
    "Q4_K": (12, 256, 4.5), "Q5_K": (13, 256, 5.5), "Q6_K": (14, 256, 6.5625), "Q8_K": (15, 256, 9.125),
    "IQ2_XXS": (16, 256, 2.0625), "IQ2_XS": (17, 256, 2.3125), "IQ3_XXS": (18, 256, 3.0625), "IQ1_S": (19, 256, 1.5625),
    "IQ4_NL": (20, 32, 4.5), "IQ3_S": (21, 256, 3.4375), "IQ2_S": (22, 256, 2.5625), "IQ4_XS": (23, 256, 4.25),
    "I8": (24, 1, 8), "I16": (25, 1, 16), "I32": (26, 1, 32), "I64": (27, 1, 64), "F64": (28, 1, 64),
    "IQ1_M": (29, 256, 1.75), "BF16": (30, 1, 16), "TQ1_0": (34, 256, 1.6875), "TQ2_0": (35, 256, 2.0625),
    "MXFP4": (39, 32, 4.25), "NVFP4": (40, 64, 4.5), "Q1_0": (41, 128, 1.125),
}  # fmt: skip


def test_the_kinds_are_those_of_ggml() -> None:
    found = {kind.name: (number, kind.length, 8 * kind.size / kind.length) for number, kind in KINDS.items()}
    assert found == BITS


def test_tensors_lie_as_the_file_says_that_they_are_aligned(tmp_path: Path) -> None:
    said = header(string(b"general.alignment"), struct.pack("<II", 4, 64), tensor(b"v", (1,)),
                  tensor(b"w", (1,), 0, 64), tensors=2, fields=1)  # fmt: skip
    (path := tmp_path / "x.gguf").write_bytes(said + bytes(-len(said) % 64) + struct.pack("<f60xf", 1.5, 2.5))
    _, tensors = load_gguf(path, {})
    assert (tensors["v"].tolist(), tensors["w"].tolist()) == ([1.5], [2.5])


def test_a_whole_number_is_of_32_bits_while_they_hold_it(tmp_path: Path) -> None:
    for value, bits in (
        (0, b"\x04\0\0\0\0\0\0\0"),
        (2**32 - 1, b"\x04\0\0\0\xff\xff\xff\xff"),
        (2**32, b"\x0b\0\0\0\0\0\0\0\x01\0\0\0"),
        (-1, b"\x05\0\0\0\xff\xff\xff\xff"),
        (-(2**31), b"\x05\0\0\0\0\0\0\x80"),
        (-(2**31) - 1, b"\x0b\0\0\0\xff\xff\xff\x7f\xff\xff\xff\xff"),
    ):
        save_gguf(tmp_path / "x.gguf", {"k": value}, {})
        assert KEY + bits in (tmp_path / "x.gguf").read_bytes()


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, w=floats([1.0, 2.0]))
    content = path.read_bytes()
    for end in range(0, len(content) - 24, 7):  # its last bytes only fill up
        path.write_bytes(content[:end])
        with pytest.raises(GGUFError):
            read_gguf_header(path)


def test_what_is_no_regular_file_is_an_os_error(tmp_path: Path) -> None:
    readers: list[Callable[[Any], Any]] = [read_gguf_header, lambda path: load_gguf(path, {})]
    for read in readers:
        with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.gguf"):
            read(tmp_path / "none.gguf")
        with pytest.raises(IsADirectoryError):
            read(tmp_path)


def test_what_calls_itself_gguf_and_is_no_directory_is_one(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").mkdir()
    assert is_gguf("nowhere.GGUF") and not is_gguf(tmp_path / "model.gguf") and not is_gguf(tmp_path)
