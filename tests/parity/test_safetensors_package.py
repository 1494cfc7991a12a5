"""Files of ours and of the safetensors package: each reads the other's, and both write the same bytes."""

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

from npora.files import SafetensorsError, load_file, load_metadata, save_file

package = pytest.importorskip("safetensors", reason="needs the extra `parity`")
from safetensors import numpy as theirs  # noqa: E402

DTYPES = ["?", "u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8", "c8"]
TENSORS = {
    f"{dtype}.{number}": np.random.default_rng(number).integers(0, 2, shape).astype(dtype)
    for dtype in DTYPES
    for number, shape in enumerate([(), (3,), (2, 0), (2, 3, 5)])
}


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_both_write_the_same_bytes_and_read_them(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file(TENSORS, tmp_path / "ours", metadata)
    theirs.save_file(TENSORS, tmp_path / "theirs", metadata)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()
    assert load_metadata(tmp_path / "theirs") == (metadata or {})
    for loaded in (load_file(tmp_path / "theirs"), theirs.load_file(tmp_path / "ours")):
        assert loaded.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            assert loaded[name].dtype == tensor.dtype and loaded[name].shape == tensor.shape
            assert loaded[name].tobytes() == tensor.tobytes()


number = st.integers(-1, 12) | st.sampled_from([2**63, True, 1.0, "1", None])
info = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BOOL", "I8", "F9"]),
        "shape": st.lists(number, max_size=2),
        "data_offsets": st.lists(number, min_size=1, max_size=3) | st.just([0, 4]) | st.just([4, 8]),
    },
    optional={"extra": st.just(1)},
)
good = st.sampled_from(
    [
        {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        {"dtype": "I8", "shape": [2, 2], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [0, 3], "data_offsets": [4, 4]},
    ]
)
headers = st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), good | info | st.just({"k": "v"}), max_size=3)


@given(headers, st.integers(0, 12), st.sampled_from([b"", b" ", b"\t", b"\n"]), st.sampled_from([b"", b" "]))
def test_what_npora_accepts_the_package_accepts_with_the_same_content(
    header: dict[str, Any], size: int, trail: bytes, lead: bytes
) -> None:
    text = lead + json.dumps(header).encode() + trail
    content = struct.pack("<Q", len(text)) + text + bytes(range(size))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "x.safetensors")
        path.write_bytes(content)
        try:
            ours: Any = {name: tensor.tobytes() for name, tensor in load_file(path).items()}
        except SafetensorsError:
            ours = None
        try:
            other: Any = {name: tensor.tobytes() for name, tensor in theirs.load_file(path).items()}
        except package.SafetensorError:
            other = None
    if ours is not None:
        assert ours == other
    elif other is not None:
        # What the package lets pass: space before the header, other white space after it, unknown fields, and bytes
        # of a bool that are neither 0 nor 1.
        extra = any("extra" in value for value in header.values())
        a_bool = any(value.get("dtype") == "BOOL" for value in header.values())
        assert lead or trail in (b"\t", b"\n") or extra or a_bool
