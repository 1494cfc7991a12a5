"""A checkpoint in one file or in shards; what contradicts the index is an error that names the file and the tensor."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.files import load_file, load_weights, save_file
from npora.files.weights import with_names

A, B = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
PLACES = {"wte.weight": A, "h.0.weight": A, "h.1.weight": B}


def sharded(directory: Path, places: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """The three tensors in the files that PLACES says, with an index that says `places`."""
    rng = np.random.default_rng(0)
    tensors = {key: rng.standard_normal((2, 3 + i)).astype(np.float32) for i, key in enumerate(PLACES)}
    for shard in (A, B):
        save_file({key: tensors[key] for key, place in PLACES.items() if place == shard}, directory / shard)
    index = {"metadata": {"total_size": 1}, "weight_map": PLACES if places is None else places, **more}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return tensors


def test_shards_give_the_same_read_only_tensors_as_one_file(tmp_path: Path) -> None:
    tensors = sharded(tmp_path)
    save_file(tensors, tmp_path / "whole.safetensors")
    loaded, whole = load_weights(tmp_path), load_file(tmp_path / "whole.safetensors")
    assert loaded.keys() == tensors.keys()
    for key, tensor in loaded.items():
        assert tensor.tobytes() == whole[key].tobytes() and tensor.shape == whole[key].shape
        assert not tensor.flags.writeable and not tensor.flags.owndata
    assert list(load_weights(str(tmp_path))) == list(loaded)


def test_what_is_made_of_a_dtype_is_made_of_it_in_shards_too(tmp_path: Path) -> None:
    sharded(tmp_path)
    loaded = load_weights(tmp_path, forms={"F32": lambda bits: bits.shape})
    assert loaded == {"wte.weight": (2, 3), "h.0.weight": (2, 4), "h.1.weight": (2, 5)}


def test_one_file_wins_over_an_index(tmp_path: Path) -> None:
    sharded(tmp_path, {"wte.weight": "missing.safetensors"})
    save_file({"only": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
    assert list(load_weights(tmp_path)) == ["only"]


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({**PLACES, "h.2.weight": B}, rf"index.json places tensor 'h.2.weight' in {B}, which does not hold it$"),
        ({**PLACES, "h.0.weight": B}, rf"places tensor 'h.0.weight' in {B}, which does not hold it; {A} does"),
        ({k: A for k in PLACES}, rf"places tensor 'h.1.weight' in {A}, which does not hold it$"),
        ({"wte.weight": A, "h.1.weight": B}, rf"{A} holds tensor 'h.0.weight', which model.*index.json does not name"),
        ({**PLACES, "h.2.weight": "../model.safetensors"}, r"places 'h.2.weight' in '../model.safetensors'; a shard's"),
        ({**PLACES, "h.2.weight": "/etc/x.safetensors"}, r"places 'h.2.weight' in '/etc/x.safetensors'; a shard's"),
        ({**PLACES, "h.2.weight": "a\\b.safetensors"}, r"places 'h.2.weight' in 'a.*b.safetensors'; a shard's name"),
        ({**PLACES, "h.2.weight": A + "\n"}, r"places 'h.2.weight' in .*; a shard's name"),
        ({**PLACES, "h.2.weight": "pytorch_model.bin"}, r"in 'pytorch_model.bin'; a shard's name"),
        ({**PLACES, "h.2.weight": 3}, r"places 'h.2.weight' in 3; a shard's name"),
        ([A, B], r"weight_map must map tensors to files; got \['model-"),
        ({}, r"weight_map must map tensors to files; got \{\}"),
    ],
)
def test_an_index_that_is_wrong_names_the_file_and_the_tensor(tmp_path: Path, places: Any, message: str) -> None:
    sharded(tmp_path, places)
    with pytest.raises(ValueError, match=message):
        load_weights(tmp_path)


def test_a_tensor_in_two_shards_is_named_with_both(tmp_path: Path) -> None:
    sharded(tmp_path)
    save_file({"h.1.weight": np.ones(2, np.float32), "wte.weight": np.ones(2, np.float32)}, tmp_path / B)
    with pytest.raises(ValueError, match=rf"tensor 'wte.weight' is in {A} and in {B}; it must be in one"):
        load_weights(tmp_path)


def test_a_shard_that_is_missing_or_cut_short_is_named(tmp_path: Path) -> None:
    sharded(tmp_path)
    content = (tmp_path / B).read_bytes()
    (tmp_path / B).write_bytes(content[:-1])
    with pytest.raises(ValueError, match=rf"{B} is truncated"):
        load_weights(tmp_path)
    (tmp_path / B).unlink()
    with pytest.raises(FileNotFoundError, match=rf"no file .*{B}, in which model.*index.json places 'h.1.weight'"):
        load_weights(tmp_path)


def link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    try:
        path.symlink_to(target)
    except OSError:
        pytest.skip("needs the right to make symbolic links")


def test_a_link_may_not_lead_out_of_the_directory(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    sharded(model)
    (model / B).rename(tmp_path / "elsewhere.safetensors")
    link(model / B, tmp_path / "elsewhere.safetensors")
    with pytest.raises(ValueError, match=rf"{B} is a link that leads out of the directory, to .*elsewhere.safetensors"):
        load_weights(model)
    (tmp_path / "elsewhere.safetensors").rename(model / "inside.safetensors")
    link(model / B, Path("inside.safetensors"))
    assert len(load_weights(model)) == 3


def test_the_links_of_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--org--tiny" / "snapshots" / "c0ffee", tmp_path / "models--org--tiny" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    tensors = sharded(snapshot)
    for number, shard in enumerate((A, B)):
        (snapshot / shard).rename(blobs / str(number))
        link(snapshot / shard, Path("../../blobs", str(number)))
    link(tmp_path / "short", snapshot)
    for directory in (snapshot, tmp_path / "short"):
        assert {k: v.tobytes() for k, v in load_weights(directory).items()} == {
            k: v.tobytes() for k, v in tensors.items()
        }
    snapshot.parent.rename(others := tmp_path / "models--org--tiny" / "others")
    with pytest.raises(ValueError, match="leads out of the directory"):  # of no snapshot
        load_weights(others / "c0ffee")
    others.rename(snapshot.parent)
    (blobs / "1").rename(beside := blobs.parent / "beside")
    link(snapshot / B, Path("../../beside"))
    with pytest.raises(ValueError, match="leads out of the directory"):
        load_weights(snapshot)
    beside.rename(tmp_path / "outside")
    link(snapshot / B, Path("../../../outside"))
    with pytest.raises(ValueError, match="leads out of the directory"):
        load_weights(snapshot)


def test_half_precision_comes_as_the_dtype_that_is_asked_for(tmp_path: Path) -> None:
    values = np.array([1.5, -0.1, 6e-8, 65504.0], np.float16)
    save_file({"half": values, "wide": values.astype(float) / 3, "ids": np.arange(4)}, tmp_path / "model.safetensors")
    stored = load_weights(tmp_path)
    assert [stored[key].dtype for key in ("half", "wide", "ids")] == [np.float16, np.float64, np.int64]
    for dtype in (np.float32, np.float64):
        loaded = load_weights(tmp_path, dtype)
        np.testing.assert_array_equal(loaded["half"], values.astype(dtype), strict=True)  # widening is exact
        np.testing.assert_array_equal(loaded["wide"], stored["wide"].astype(dtype), strict=True)
        assert loaded["ids"].dtype == np.int64
        assert not any(tensor.flags.writeable for tensor in loaded.values())


def test_neither_file_says_what_was_looked_for_and_what_to_do_with_a_pickle(tmp_path: Path) -> None:
    nothing = r"there is no file .*model\.safetensors, and no model\.safetensors\.index\.json either"
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=nothing + "$"):
            load_weights(directory)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(FileNotFoundError, match=nothing + r"\. pytorch_model\.bin is a pickle.*never reads.*convert"):
        load_weights(tmp_path)


def test_the_index_may_be_larger_than_a_config(tmp_path: Path) -> None:
    sharded(tmp_path, notes="x" * 1_100_000)
    assert len(load_weights(tmp_path)) == 3
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(re.sub('"h.1.weight"', '"wte.weight"', path.read_text()))
    with pytest.raises(ValueError, match=r"index\.json is not valid JSON: the key 'wte\.weight' stands twice"):
        load_weights(tmp_path)


def test_an_index_has_a_size_and_a_number_of_values_that_it_may_have(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(b"{" + b"," * 400_000 + b"}")
    with pytest.raises(ValueError, match="holds 400,001 values; at most 320,000 are read"):
        load_weights(tmp_path)
    with open(path, "wb") as file:
        file.truncate(100_000_001)  # which takes no place on the disk
    with pytest.raises(ValueError, match="has 100,000,001 bytes; at most 100,000,000 are read"):
        load_weights(tmp_path)


def test_the_first_of_several_pickles_is_named(tmp_path: Path) -> None:
    for number in (2, 1):
        (tmp_path / f"pytorch_model-{number}.bin").touch()
    with pytest.raises(FileNotFoundError, match=r"pytorch_model-1\.bin is a pickle"):
        load_weights(tmp_path)


def test_parts_of_names_are_replaced_one_after_the_other() -> None:
    one, two = np.zeros(1), np.ones(2)
    found = with_names({"a.b.c": one, "x": two}, {"a.": "b.", "b.b.": "d."})
    assert list(found) == ["d.c", "x"] and found["d.c"] is one and found["x"] is two
