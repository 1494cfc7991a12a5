"""The safetensors reader and writer: what goes in comes out, and a file that lies is an error, never anything else."""

from __future__ import annotations

import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npora.files import SafetensorsError, load_file, load_metadata, read_header, save_file
from npora.files.header import BITS

DTYPES = ["?", "u1", "i1", "<u2", ">i2", "<f2", ">u4", "<i4", "<f4", ">f4", "<u8", ">i8", "<f8", ">f8", "<c8"]


def file_of(directory: Path, header: Any, data: bytes = b"", *, lead: bytes = b"", trail: bytes = b"") -> Path:
    """A file with this header (a text, or what JSON makes of it), whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text = lead + text + trail
    path = directory / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype: str = "F32", shape: Any = (2,), begin: Any = 0, end: Any = 8, **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Any dtype, and strides as slicing, transposing, reversing and broadcasting make them."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    array = rng.integers(0, 2, [2 * size for size in shape]).astype(draw(st.sampled_from(DTYPES)))
    array = array[tuple(slice(None, None, draw(st.sampled_from([2, -2]))) for _ in shape)]
    if draw(st.booleans()):
        array = array.T
    if draw(st.booleans()):
        array = np.broadcast_to(array, (2, *array.shape))
    return array


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), arrays(), max_size=4))
def test_any_arrays_round_trip(tensors: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "x.safetensors")
        save_file(tensors, path, {"format": "pt"})
        loaded = load_file(path)
        assert loaded.keys() == tensors.keys() and load_metadata(path) == {"format": "pt"}
        for name, array in tensors.items():
            native = array.astype(array.dtype.newbyteorder("="))
            assert loaded[name].dtype == native.dtype and loaded[name].shape == array.shape
            assert loaded[name].tobytes() == native.tobytes() and not loaded[name].flags.writeable


def test_the_same_tensors_give_the_same_bytes_in_whatever_order_they_come(tmp_path: Path) -> None:
    tensors = {"b": np.ones(3, np.float32), "a": np.zeros(2), "c": np.ones((2, 2), np.float16)}
    save_file(tensors, tmp_path / "1", {"x": "1", "a": "2"})
    save_file(dict(reversed(tensors.items())), tmp_path / "2", {"a": "2", "x": "1"})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert read_header(tmp_path / "1").start % 8 == 0


def test_where_the_data_begins_is_a_multiple_of_eight(tmp_path: Path) -> None:
    for length in range(1, 9):
        save_file({"w" * length: np.ones(1)}, tmp_path / "x")
        assert read_header(tmp_path / "x").start % 8 == 0 and load_file(tmp_path / "x")["w" * length] == 1


def is_mapped(array: Any) -> bool:
    while isinstance(array, np.ndarray):
        array = array.base
    return array is not None


def test_a_tensor_is_a_view_of_the_file_where_it_lies_aligned_there(tmp_path: Path) -> None:
    header = json.dumps({"w": entry()}).encode()
    for more in range(8):
        path = file_of(tmp_path, header, struct.pack("<2f", 1, 2), trail=b" " * more)
        tensor = load_file(path)["w"]
        assert tensor.tolist() == [1, 2] and tensor.flags.aligned
        assert is_mapped(tensor) == ((len(header) + more) % 4 == 0)


def test_an_empty_tensor_may_be_named_behind_the_one_that_begins_where_it_does(tmp_path: Path) -> None:
    path = file_of(tmp_path, {"w": entry(), "empty": entry("F32", [0], 0, 0)}, struct.pack("<2f", 1, 2))
    assert {name: tensor.tolist() for name, tensor in load_file(path).items()} == {"w": [1, 2], "empty": []}


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    # 1 = 0x3F80, −2 = 0xC000, 3.140625 = 0x4049, ∞ = 0x7F80
    data = struct.pack("<4H", 0x3F80, 0xC000, 0x4049, 0x7F80)
    path = file_of(tmp_path, {"w": entry("BF16", [2, 2], 0, 8)}, data)
    tensor = load_file(path)["w"]
    assert tensor.dtype == np.float32 and tensor.tolist() == [[1.0, -2.0], [3.140625, np.inf]]


def test_saving_over_a_mapped_file_leaves_what_was_loaded_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"w": np.arange(1000.0)}, path)
    loaded = load_file(path)["w"]
    save_file({"w": np.zeros(3)}, path)
    assert (loaded == np.arange(1000.0)).all() and load_file(path)["w"].tolist() == [0, 0, 0]


LIES: list[tuple[Any, bytes, str]] = [
    ({"w": entry(end=7)}, bytes(7), "needs 8 bytes, and its data_offsets [0, 7] hold 7"),
    ({"w": entry()}, bytes(7), "is truncated: its tensors need 8 bytes of data, and it holds 7"),
    ({"w": entry()}, bytes(9), "has bytes that no tensor owns"),
    ({"v": entry(), "w": entry(begin=4, end=12)}, bytes(12), "tensor 'w' at [4, 12] overlaps"),
    ({"v": entry(), "w": entry(begin=12, end=20)}, bytes(20), "tensor 'w' at [12, 20] leaves a gap"),
    ({"w": entry(begin=8, end=0)}, bytes(8), "tensor 'w'"),
    ({"w": entry(shape=[-2])}, bytes(8), "must be whole numbers"),
    ({"w": entry(shape=[2.0])}, bytes(8), "must be whole numbers"),
    ({"w": entry(shape=[True, 2])}, bytes(8), "must be whole numbers"),
    ({"w": entry(shape=2)}, bytes(8), "must be whole numbers"),
    ({"w": entry(begin=False)}, bytes(8), "must be whole numbers"),
    ({"w": entry(shape=[2**62, 2**62])}, bytes(8), "needs"),
    ({"w": entry(shape=[10**3999] * 1000)}, bytes(8), "that no file has room for"),
    ({"w": entry(shape=[1] * 33)}, bytes(8), "33 axes, of which at most 32 are read"),
    ({"w": entry(shape=[0, 2**61, 2**61], end=0)}, b"", "which no file has room for"),
    ({"w": entry(shape=[0, 2**59], end=0)}, b"", "which no file has room for"),
    ({"w" * 300: entry(end=7)}, bytes(7), f"tensor '{'w' * 198}… of shape"),
    (b"{" + b"," * 400_000 + b"}", b"", "holds 400,001 values; at most 320,000 are read"),
    ({"w": entry(dtype="F31")}, bytes(8), "unknown dtype 'F31'"),
    ({"w": entry(dtype=None)}, bytes(8), "unknown dtype None"),
    ({"w": entry(extra=1)}, bytes(8), "must have dtype, shape and data_offsets, and no more"),
    ({"w": {"dtype": "F32", "shape": [2]}}, bytes(8), "must have dtype"),
    ({"w": [1]}, bytes(8), "must have dtype"),
    ({"w": entry("BOOL", [2], 0, 2)}, b"\1\2", "neither 0 nor 1"),
    ({"w": entry("F8_E4M3", [2], 0, 2)}, b"\1\2", "F8_E4M3, which NumPy cannot hold"),
    ({"__metadata__": {"a": 1}}, b"", "__metadata__ must map strings to strings"),
    ({"__metadata__": "a"}, b"", "__metadata__ must map strings to strings"),
    (b'{"w":1,"w":2}', b"", "the key 'w' stands twice"),
    (b'{"__metadata__":{"a":"1","a":"2"}}', b"", "the key 'a' stands twice"),
    (b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}', bytes(8), "NaN is not a JSON number"),
    (b'{"w":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}', bytes(8), "not valid JSON"),
    (b"{" + b'"w":[' + b"[" * 100_000 + b"]" * 100_000 + b"]}", b"", "not valid JSON"),
    (b"[1]", b"", "must start with"),
    (b'{"w":\xff}', b"", "not valid JSON"),
    (b"{", b"", "may be padded with spaces only"),
]


@pytest.mark.parametrize(("header", "data", "message"), LIES, ids=[message for _, _, message in LIES])
def test_a_header_that_lies_is_an_error_that_says_where(tmp_path: Path, header: Any, data: bytes, message: str) -> None:
    path = file_of(tmp_path, header, data)
    with pytest.raises(SafetensorsError) as error:
        load_file(path)
    assert message in str(error.value) and "x.safetensors" in str(error.value)


def test_padding_is_spaces_at_the_end_alone(tmp_path: Path) -> None:
    good = {"w": entry()}
    assert load_file(file_of(tmp_path, good, bytes(8), trail=b"   "))["w"].tolist() == [0, 0]
    for lead, trail in ((b" ", b""), (b"", b"\t"), (b"", b"\n"), (b"", b"\0")):
        with pytest.raises(SafetensorsError):
            load_file(file_of(tmp_path, good, bytes(8), lead=lead, trail=trail))


def test_empty_tensors_take_no_bytes_and_may_share_a_place(tmp_path: Path) -> None:
    header = {"a": entry(shape=[0, 10**12], end=0), "b": entry(shape=[0], end=0), "w": entry()}
    loaded = load_file(file_of(tmp_path, header, bytes(8)))
    assert loaded["a"].shape == (0, 10**12) and loaded["b"].shape == (0,)
    assert load_file(file_of(tmp_path, {})) == {}


def small_file(directory: Path) -> bytes:
    path = directory / "whole.safetensors"
    save_file({"w": np.array([[1.5, -2.0, 3.0]], np.float32), "ids": np.array([1, 2])}, path, {"format": "pt"})
    return path.read_bytes()


def test_a_file_cut_short_anywhere_is_an_error(tmp_path: Path) -> None:
    content, path = small_file(tmp_path), tmp_path / "cut.safetensors"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(SafetensorsError, match=r"cut\.safetensors"):
            load_file(path)


def test_any_flipped_bit_gives_an_error_or_other_values_and_nothing_else(tmp_path: Path) -> None:
    content, path = small_file(tmp_path), tmp_path / "flipped.safetensors"
    refused = 0
    for position in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                load_file(path)
            except SafetensorsError:
                refused += 1
    header = read_header(tmp_path / "whole.safetensors").start
    assert refused > 0.8 * 8 * header  # nearly every flip in the header is noticed; those in the data cannot be


@pytest.mark.parametrize("kind", sorted(BITS))
def test_eight_numbers_take_as_many_bytes_as_one_has_bits(tmp_path: Path, kind: str) -> None:
    bits = {"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "BF16": 16}.get(kind) or int(kind[1:])
    path = file_of(tmp_path, {"w": entry(kind, [8], 0, bits)}, bytes(bits))
    assert read_header(path).tensors["w"].end == bits
    if kind.startswith("F8"):
        with pytest.raises(SafetensorsError, match=f"{kind}, which NumPy cannot hold"):
            load_file(path)
    else:
        assert load_file(path)["w"].tolist() == [0] * 8
    assert load_file(file_of(tmp_path, {"w": entry(kind, [0], 0, 0)}))["w"].shape == (0,) if bits > 8 else True


def test_a_longer_header_than_any_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "x.safetensors", "wb") as file:
        file.write(struct.pack("<Q", 100_000_001))
        file.truncate(100_000_100)  # which takes no place on the disk
    with pytest.raises(SafetensorsError, match="its header has 100,000,001 bytes, and has 100,000,100 bytes in all"):
        read_header(tmp_path / "x.safetensors")


def test_a_length_past_the_end_is_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    for length in (10**17, 2**64 - 1, 100_000_001):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(SafetensorsError, match="it is truncated, or not a safetensors file"):
            load_file(path)


def test_what_cannot_be_written_is_refused_by_name(tmp_path: Path) -> None:
    for tensors, metadata, message in (
        ({"__metadata__": np.ones(1)}, None, "the format reserves it"),
        ({"w": np.ones(1, np.complex128)}, None, "tensor 'w' is complex128"),
        ({"w": np.array(["a"])}, None, "tensor 'w' is <U1"),
        ({"w": np.array([None])}, None, "tensor 'w' is object"),
        ({"w": np.ones(1)}, {"a": 1}, "metadata must map strings to strings"),
    ):
        with pytest.raises(SafetensorsError, match=message):
            save_file(tensors, tmp_path / "x", metadata)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.safetensors"):
        load_file(tmp_path / "none.safetensors")
