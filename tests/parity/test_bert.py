"""BertForSequenceClassification against transformers', in float64: outputs and the gradient of every parameter."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora.files import load_file, save_file
from npora.models import DifferenceWarning
from tests.parity.reference import (
    BATCH,
    LABELS,
    assert_close,
    assert_same_gradients,
    npora_bert,
    reference_bert,
    tensors,
    torch,
)  # fmt: skip

# Values of size about 1 pass through two layers, at most 24 terms in a sum: 2¹² roundings of 2⁻⁵³ are 5e-13.
FORWARD, BACKWARD = 1e-12, 1e-10


@pytest.mark.parametrize("changes", [{}, {"hidden_act": "relu"}, {"hidden_act": "gelu_new"}, {"type_vocab_size": 4}])
def test_outputs_and_every_gradient_agree(tmp_path: Path, changes: dict[str, Any]) -> None:
    theirs = reference_bert(tmp_path, **changes)
    ours = npora_bert(tmp_path)
    output, backward = ours(**BATCH, labels=LABELS)
    expected = theirs(**tensors(BATCH), labels=torch.tensor(LABELS))
    assert_close(output.logits, expected.logits, FORWARD)
    assert_close(output.loss, expected.loss, FORWARD)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(ours, theirs, BACKWARD) == 3 + 2 + 2 * 16 + 2 + 2


def test_the_body_alone_agrees_and_pads_with_zeros(tmp_path: Path) -> None:
    theirs, ours = reference_bert(tmp_path).bert, npora_bert(tmp_path).bert
    output, backward = ours(**BATCH)
    expected = theirs(**tensors(BATCH))
    real = BATCH["attention_mask"].astype(bool)
    assert_close(output.last_hidden_state[real], expected.last_hidden_state[torch.tensor(real)], FORWARD)
    assert not output.last_hidden_state[~real].any()
    assert_close(output.pooler_output, expected.pooler_output, FORWARD)
    rng = np.random.default_rng(0)
    dhidden, dpooled = rng.standard_normal((3, 5, 24)) * real[..., None], rng.standard_normal((3, 24))
    backward(dhidden, dpooled)
    upstream = (expected.last_hidden_state * torch.tensor(dhidden)).sum()
    (upstream + (expected.pooler_output * torch.tensor(dpooled)).sum()).backward()
    assert_same_gradients(ours, theirs, BACKWARD)


def test_padding_on_the_left_counts_in_the_positions_as_in_transformers(tmp_path: Path) -> None:
    theirs, ours = reference_bert(tmp_path), npora_bert(tmp_path)
    batch = {key: value[:, ::-1].copy() for key, value in BATCH.items()}
    # transformers pools column 0 whatever it holds; npora the first real token. So the bodies are compared.
    with pytest.warns(DifferenceWarning, match="padded on its left"):
        hidden = ours.bert(**batch)[0].last_hidden_state
    expected = theirs.bert(**tensors(batch)).last_hidden_state
    real = batch["attention_mask"].astype(bool)
    assert_close(hidden[real], expected[torch.tensor(real)], FORWARD)


def test_one_output_is_a_regression(tmp_path: Path) -> None:
    theirs, ours = reference_bert(tmp_path, num_labels=1), npora_bert(tmp_path)
    labels = np.array([0.5, -2.0, 1.25])
    output, backward = ours(**BATCH, labels=labels)
    expected = theirs(**tensors(BATCH), labels=torch.tensor(labels))
    assert_close(output.loss, expected.loss, FORWARD)
    backward()
    expected.loss.backward()
    assert_same_gradients(ours, theirs, BACKWARD)


def strip_prefix(state: dict[str, Any]) -> dict[str, Any]:
    return {key.removeprefix("bert."): value for key, value in state.items()}


def old_names(state: dict[str, Any]) -> dict[str, Any]:
    return {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in state.items()
    }


@pytest.mark.parametrize("rename", [strip_prefix, old_names])
def test_files_with_other_names_load_the_same(tmp_path: Path, rename: Any) -> None:
    expected = reference_bert(tmp_path)(**tensors(BATCH)).logits
    path = tmp_path / "model.safetensors"
    state = rename({name: np.array(value) for name, value in load_file(path).items()})
    save_file({**state, "cls.predictions.bias": np.zeros(3)}, path)
    assert_close(npora_bert(tmp_path)(**BATCH)[0].logits, expected, FORWARD)


def test_a_file_without_a_pooler_loads_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = reference_bert(tmp_path).bert(**tensors(BATCH)).last_hidden_state
    path = tmp_path / "model.safetensors"
    state = {name: np.array(v) for name, v in load_file(path).items() if "pooler" not in name and "class" not in name}
    save_file(state, path)
    with caplog.at_level(logging.WARNING, "npora"):
        ours = npora_bert(tmp_path)
        ours(**BATCH)
    assert "newly initialised" in caplog.text and "bert.pooler.dense.weight" in caplog.text
    real = BATCH["attention_mask"].astype(bool)
    assert_close(ours.bert(**BATCH)[0].last_hidden_state[real], expected[torch.tensor(real)], FORWARD)


def test_the_number_of_labels_comes_from_the_config_or_the_caller(tmp_path: Path) -> None:
    reference_bert(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()).get("id2label")
    assert npora_bert(tmp_path).config.num_labels == 3
