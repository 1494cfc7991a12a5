"""Checkpoints that transformers wrote: in shards, in half precision, and as a pickle that has to be converted first."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.files import load_weights

torch = pytest.importorskip("torch", reason="needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="needs the extra `parity`")


def tiny(dtype: Any) -> Any:
    sizes = {"vocab_size": 31, "n_positions": 13, "n_embd": 6, "n_layer": 2, "n_head": 3}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).to(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_shards_that_transformers_wrote(tmp_path: Path, dtype: str) -> None:
    model = tiny(getattr(torch, dtype))
    model.save_pretrained(tmp_path, max_shard_size="2KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1 and (tmp_path / "model.safetensors.index.json").is_file()
    loaded = load_weights(tmp_path, np.float32)
    state = model.state_dict()
    assert state.keys() - loaded.keys() == {"lm_head.weight"}  # tied
    for key, tensor in loaded.items():
        np.testing.assert_array_equal(tensor, state[key].float().numpy(), strict=True)


def test_one_file_wins_over_an_index_as_in_transformers(tmp_path: Path) -> None:
    model, other = tiny(torch.float32), tiny(torch.float32)
    other.save_pretrained(tmp_path, max_shard_size="2KB")
    model.save_pretrained(tmp_path / "whole")
    (tmp_path / "whole" / "model.safetensors").rename(tmp_path / "model.safetensors")
    key = "transformer.wte.weight"
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path).state_dict()[key].numpy()
    np.testing.assert_array_equal(theirs, model.state_dict()[key].numpy())
    np.testing.assert_array_equal(load_weights(tmp_path)[key], theirs)


def test_the_command_that_is_named_converts_a_pickle(tmp_path: Path) -> None:
    state = tiny(torch.float32).state_dict()
    state["turned"] = torch.randn(4, 3).T
    keys = sorted(state)
    torch.save({key: state[key] for key in keys[::2]}, tmp_path / "pytorch_model-00001-of-00002.bin")
    torch.save({key: state[key] for key in keys[1::2]}, tmp_path / "pytorch_model-00002-of-00002.bin")
    with pytest.raises(FileNotFoundError) as error:
        load_weights(tmp_path)
    command = re.search(r"python -c .*", str(error.value))
    assert command
    subprocess.run([sys.executable, *shlex.split(command[0])[1:]], cwd=tmp_path, check=True, timeout=120)
    loaded = load_weights(tmp_path)
    assert sorted(loaded) == keys
    for key, tensor in loaded.items():
        np.testing.assert_array_equal(tensor, state[key].numpy(), strict=True)
