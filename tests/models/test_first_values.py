"""What a checkpoint lacks begins as its config says; what a folder holds of several kinds is weighed together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForSequenceClassification
from npora.files import load_file, save_file
from npora.models import AutoModelForMaskedLM
from npora.optim import SGD
from tests.tiny import tiny_bert
from tests.tiny_encoders import tiny_encoder

IDS = np.array([[3, 5, 7], [2, 4, 1]])


def test_a_head_that_is_new_is_drawn_with_the_configs_spread(tmp_path: Path) -> None:
    for spread in (0.02, 0.9):
        tiny_encoder("bert", "TokenClassification", initializer_range=spread).save_pretrained(tmp_path)
        model: Any = AutoModelForMaskedLM.from_pretrained(tmp_path)
        transform = model.get_submodule("cls.predictions.transform")
        weight = transform.dense.weight.data  # the spread of n draws is known to about 1/√(2n)
        assert abs(weight.std() / spread - 1) < 4 / np.sqrt(2 * weight.size)
        assert (transform.LayerNorm.weight.data == 1).all() and not transform.LayerNorm.bias.data.any()
        assert not transform.dense.bias.data.any()


def test_each_new_weight_is_drawn_for_itself(tmp_path: Path) -> None:
    tiny_encoder("roberta", "MaskedLM").save_pretrained(tmp_path)
    state = AutoModelForSequenceClassification.from_pretrained(tmp_path).state_dict()
    dense, out = (state[f"classifier.{name}.weight"].ravel() for name in ("dense", "out_proj"))
    assert not (dense[: out.size] == out[: dense.size]).any()


def test_a_head_that_was_trained_is_no_longer_new(tmp_path: Path) -> None:
    tiny_encoder("bert", "MaskedLM").save_pretrained(tmp_path)
    model: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert "classifier.weight" in model.newly_initialized
    model(IDS, labels=np.array([1, 0]))[1]()
    SGD(model.parameters(), 0.1).step()
    assert model.newly_initialized == ()


def test_auto_is_float64_where_one_of_the_weights_is(tmp_path: Path) -> None:
    tiny_bert().save_pretrained(tmp_path)
    state = {name: np.array(value) for name, value in load_file(tmp_path / "model.safetensors").items()}
    state["classifier.bias"] = state["classifier.bias"].astype(np.float64)
    save_file(state, tmp_path / "model.safetensors")
    model: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype="auto")
    assert {parameter.dtype for parameter in model.parameters()} == {np.dtype(np.float64)}


def test_a_tokenizer_of_which_one_file_differs_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_bert().save_pretrained(tmp_path / "a")
    for name in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / "a" / name).write_text("{}")
    model: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "a")
    model.save_pretrained(tmp_path / "b")
    (tmp_path / "b" / "vocab.txt").write_text("another")
    model.save_pretrained(tmp_path / "b")
    assert "has a tokenizer that is not the one in" in caplog.text
