"""What a checkpoint lacks begins as its config says; what a folder holds of several kinds is weighed together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForSequenceClassification
from npora.files import load_file, save_file
from npora.models import AutoModelForMaskedLM, ModernBertConfig, ModernBertModel, T5Config, T5ForSequenceClassification
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


@pytest.mark.parametrize("layers", [1, 3])
def test_what_adds_to_modernberts_residual_starts_the_smaller_the_more_layers_there_are(layers: int) -> None:
    config = ModernBertConfig(vocab_size=7, hidden_size=80, num_attention_heads=2, intermediate_size=9,
                              num_hidden_layers=layers, initializer_range=0.3, pad_token_id=0)  # fmt: skip
    W = ModernBertModel(config, rng=0).layers[0].attn.Wo.weight.data
    assert abs(W.std() / (0.3 / np.sqrt(2 * layers)) - 1) < 4 / np.sqrt(2 * W.size)


def test_t5s_classifier_starts_with_the_configs_factor() -> None:
    sizes = {"vocab_size": 7, "d_model": 80, "d_kv": 3, "num_heads": 2, "d_ff": 7, "num_layers": 1}
    model = T5ForSequenceClassification(T5Config(**sizes, initializer_factor=3.0, eos_token_id=1), rng=0)
    W = model.classification_head.dense.weight.data
    assert abs(W.std() / (3 / np.sqrt(80)) - 1) < 4 / np.sqrt(2 * W.size)
