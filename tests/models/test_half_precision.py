"""A checkpoint in float16 or bfloat16 makes a model in float32, with the very numbers that it holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from npora import AutoModelForSequenceClassification
from npora.files import save_file
from tests.tiny import save_bert, tiny_bert


def as_bfloat16(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """The upper halves of float32, for which NumPy has no dtype: saved as uint16, and the header rewritten."""
    save_file({key: (tensor.view("<u4") >> 16).astype("<u2") for key, tensor in tensors.items()}, path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    text = json.dumps({key: {**entry, "dtype": "BF16"} for key, entry in header.items()}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_loads_as_float32(tmp_path: Path, kind: str) -> None:
    model = tiny_bert()
    path = save_bert(model, tmp_path / "m") / "model.safetensors"
    state = {key: np.ascontiguousarray(value) for key, value in model.state_dict().items()}
    if kind == "float16":
        save_file({key: value.astype(np.float16) for key, value in state.items()}, path)
        held = {key: value.astype(np.float16).astype(np.float32) for key, value in state.items()}
    else:
        as_bfloat16(path, state)
        held = {key: (value.view("<u4") & 0xFFFF0000).view("<f4") for key, value in state.items()}
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m")
    assert held.keys() == dict(loaded.named_parameters()).keys()
    for name, parameter in loaded.named_parameters():
        np.testing.assert_array_equal(parameter.data, held[name], strict=True)
    wide = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m", dtype=np.float64)
    assert {parameter.dtype for parameter in wide.parameters()} == {np.dtype(np.float64)}
