"""Files of ours and of the package gguf: each reads the other's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from npora.files.gguf import load_gguf
from npora.files.gguf_header import KINDS
from npora.stored import Q8_0, Blocked
from tests.files.test_gguf import METADATA, floats, raw, written
from tests.stored.test_ggml import FORMATS, drawn

package = pytest.importorskip("gguf", reason="needs the extra `parity`")


def test_the_package_reads_what_we_write(tmp_path: Path) -> None:
    matrix, data = np.arange(15.0).reshape(3, 5), bytes(range(68))
    path = written(tmp_path, w=floats(matrix), blocks=raw("Q8_0", (2, 32), data), last=floats([1.5]))
    reader = package.GGUFReader(path)
    for key, value in METADATA.items():
        assert np.array_equal(reader.fields[key].contents(), value), key
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert found["w"].data.tolist() == matrix.tolist() and found["blocks"].shape.tolist() == [32, 2]
    assert found["blocks"].data.tobytes() == data and found["last"].data.tolist() == [1.5]


@pytest.mark.parametrize("alignment", [32, 64])
def test_we_read_what_the_package_writes(tmp_path: Path, alignment: int) -> None:
    writer = package.GGUFWriter(tmp_path / "x.gguf", "llama")
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    writer.add_uint64("a.large", 2**40)
    writer.add_int8("a.small", -3)
    writer.add_float64("a.share", 0.1)
    writer.add_bool("a.no", False)
    writer.add_array("a.texts", ["", "é"])
    writer.add_array("a.numbers", [1, -2])
    matrix = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    blocks = package.quants.quantize(matrix, package.GGMLQuantizationType.Q8_0)
    writer.add_tensor("w", matrix[:, :5])
    writer.add_tensor("q", blocks, raw_dtype=package.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header, tensors = load_gguf(tmp_path / "x.gguf", {"Q8_0": lambda bits: bits})
    numbers = header.metadata.pop("a.numbers")
    assert numbers.tolist() == [1, -2]
    assert header.metadata == {
        "general.architecture": "llama", "a.large": 2**40, "a.small": -3, "a.share": 0.1, "a.no": False,
        "a.texts": ["", "é"], **({} if alignment == 32 else {"general.alignment": alignment}),
    }  # fmt: skip
    assert np.array_equal(tensors["w"], matrix[:, :5]) and np.array_equal(tensors["q"], blocks)


@pytest.mark.parametrize(("form", "halves"), [(form, halves) for form, _, halves in FORMATS])
def test_blocks_are_unpacked_to_the_package_s_bits(form: type[Blocked], halves: tuple[int, ...]) -> None:
    blocks = drawn(form, halves, 30, 5).reshape(30, -1)
    expected = package.dequantize(blocks, package.GGMLQuantizationType[form.__name__])
    assert np.array_equal(form(blocks, (30, 5 * form.block))[:].view(np.uint32), expected.view(np.uint32))


def test_what_is_quantised_here_is_within_a_step_of_the_package_s() -> None:
    x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
    kind = package.GGMLQuantizationType.Q8_0
    theirs = package.dequantize(package.quants.quantize(x, kind), kind)
    assert np.abs(Q8_0.quantized(x)[:] - theirs).max() <= np.abs(x).max() / 127


def test_the_kinds_of_tensors_are_the_packages() -> None:
    for number, kind in KINDS.items():
        theirs = package.GGMLQuantizationType(number)
        assert (kind.name, (kind.length, kind.size)) == (theirs.name, package.GGML_QUANT_SIZES[theirs])
