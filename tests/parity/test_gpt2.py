"""GPT-2 against transformers', in float64: outputs, losses, the gradient of every parameter, and every kind of file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import AutoModelForCausalLM, AutoModelForSequenceClassification
from npora.files import load_file, save_file
from npora.models import GPT2Model
from tests.parity.reference import assert_close, assert_same_gradients, tensors, torch
from tests.parity.reference_gpt2 import BATCH, REAL, reference_gpt2

# Values of size about 10 pass through two layers, at most 24 terms in a sum: 2¹³ roundings of 10 · 2⁻⁵³ are 1e-11.
FORWARD, LOSS, BACKWARD = 1e-11, 1e-12, 1e-9
LABELS = np.where(REAL, BATCH["input_ids"], -100)
LABELS[0, 2] = -100
CLASSES = np.array([3, 0, 1])
CLASSIFIER = "GPT2ForSequenceClassification"


def gpt2(directory: Path, auto: Any = AutoModelForCausalLM) -> Any:
    return auto.from_pretrained(directory, dtype=np.float64)


def causal_loss(logits: Any) -> Any:
    return torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, 50), torch.tensor(LABELS[:, 1:]).reshape(-1))


def left(batch: dict[str, Any]) -> dict[str, Any]:
    """The same sequences, padded on the left."""
    ids, mask = np.zeros_like(batch["input_ids"]), np.zeros_like(batch["attention_mask"])
    for i, row in enumerate(batch["attention_mask"].astype(bool)):
        ids[i, len(row) - row.sum() :], mask[i, len(row) - row.sum() :] = batch["input_ids"][i, row], 1
    return {"input_ids": ids, "attention_mask": mask}


VARIANTS: list[dict[str, Any]] = [
    {}, {"activation_function": "relu"}, {"n_inner": None}, {"scale_attn_by_inverse_layer_idx": True},
    {"scale_attn_weights": False}, {"tie_word_embeddings": False}, {"layer_norm_epsilon": 0.1},
]  # fmt: skip


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_logits_loss_and_every_gradient_agree(tmp_path: Path, changes: dict[str, Any]) -> None:
    theirs = reference_gpt2(tmp_path, **changes)
    ours = gpt2(tmp_path)
    output, backward = ours(**BATCH, labels=LABELS)
    expected = theirs(**tensors(BATCH), labels=torch.tensor(LABELS))
    assert_close(output.logits[REAL], expected.logits[torch.tensor(REAL)], FORWARD)
    loss = causal_loss(expected.logits)
    assert_close(output.loss, loss, LOSS)
    assert_close(output.loss, expected.loss, 1e-6)  # transformers computes it in float32, whatever the model's dtype
    assert output.num_items == 5  # 4 + 0 + 2 pairs, one of which is not to be learnt
    backward()
    loss.backward()
    tied = changes.get("tie_word_embeddings", True)
    assert assert_same_gradients(ours, theirs, BACKWARD) == 2 + 2 * 12 + 2 + (not tied)


def test_logits_alone_have_the_gradient_of_transformers(tmp_path: Path) -> None:
    theirs, ours = reference_gpt2(tmp_path), gpt2(tmp_path)
    dlogits = np.random.default_rng(0).standard_normal((3, 5, 50)) * REAL[..., None]
    ours(**BATCH)[1](dlogits)
    (theirs(**tensors(BATCH)).logits * torch.tensor(dlogits)).sum().backward()
    assert_same_gradients(ours, theirs, BACKWARD)


def test_padding_on_the_left_counts_in_the_positions_as_in_transformers(tmp_path: Path) -> None:
    theirs, ours = reference_gpt2(tmp_path), gpt2(tmp_path)
    batch = left(BATCH)
    real = batch["attention_mask"].astype(bool)
    assert_close(ours(**batch)[0].logits[real], theirs(**tensors(batch)).logits[torch.tensor(real)], FORWARD)
    positions = np.maximum(real.cumsum(axis=1) - 1, 0)
    given = ours(**batch, position_ids=positions)[0].logits[real]
    assert_close(given, theirs(**tensors(batch), position_ids=torch.tensor(positions)).logits[real], FORWARD)
    for row in range(3):  # with those, each row is what it is alone
        alone = ours(batch["input_ids"][row : row + 1, real[row]])[0].logits[0]
        np.testing.assert_allclose(ours(**batch, position_ids=positions)[0].logits[row, real[row]], alone, atol=FORWARD)


@pytest.mark.parametrize("pad_on", ["right", "left"])
@pytest.mark.parametrize("pad_token_id", [0, 2])
def test_a_classifier_reads_the_rightmost_token_that_is_no_padding(
    tmp_path: Path, pad_on: str, pad_token_id: int
) -> None:
    theirs = reference_gpt2(tmp_path, CLASSIFIER, pad_token_id=pad_token_id)
    ours = gpt2(tmp_path, AutoModelForSequenceClassification)
    batch = {**BATCH, "input_ids": np.where(REAL, BATCH["input_ids"], pad_token_id)}
    if pad_on == "left":
        real = left(BATCH)["attention_mask"].astype(bool)
        batch = {"input_ids": np.where(real, left(BATCH)["input_ids"], pad_token_id), "attention_mask": 1 * real}
    output, backward = ours(**batch, labels=CLASSES)
    expected = theirs(**tensors(batch), labels=torch.tensor(CLASSES))
    assert_close(output.logits, expected.logits, FORWARD)
    assert_close(output.loss, expected.loss, LOSS)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(ours, theirs, BACKWARD) == 2 + 2 * 12 + 2 + 1


@pytest.mark.parametrize("pad_token_id", [2, 48, None])
def test_what_the_mask_shows_at_the_end_is_read_whichever_token_is_padding(
    tmp_path: Path, pad_token_id: int | None
) -> None:
    theirs = reference_gpt2(tmp_path, CLASSIFIER, pad_token_id=pad_token_id, eos_token_id=2)
    ours = gpt2(tmp_path, AutoModelForSequenceClassification)
    texts = [[7, 3, 2], [9, 2], [5]]  # as with GPT-2's usual padding, the first two end in a real 2
    mask = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    found = ours(np.array([[7, 3, 2], [9, 2, 2], [5, 2, 2]]), mask)[0].logits
    theirs.config.pad_token_id = None  # which takes one sequence at once, and reads its last token
    for logits, text in zip(found, texts, strict=True):
        assert_close(logits[None], theirs(torch.tensor([text])).logits, FORWARD)


@pytest.mark.parametrize("pad_token_id", [2, 48])
def test_without_a_mask_a_classifier_reads_what_transformers_reads(tmp_path: Path, pad_token_id: int) -> None:
    theirs = reference_gpt2(tmp_path, CLASSIFIER, pad_token_id=pad_token_id)
    ours = gpt2(tmp_path, AutoModelForSequenceClassification)
    ids = np.array([[7, 3, 2], [9, 2, 2], [2, 2, 2]])
    assert_close(ours(ids)[0].logits, theirs(torch.tensor(ids)).logits, FORWARD)


@pytest.mark.parametrize(
    ("labels", "changes"),
    [(np.array([0.5, -2.0, 1.25]), {"num_labels": 1}), (np.array([[0, 1.0], [1, 1], [0, 0]]), {"num_labels": 2})],
)
def test_the_labels_decide_which_loss_it_is(tmp_path: Path, labels: np.ndarray, changes: dict[str, Any]) -> None:
    theirs = reference_gpt2(tmp_path, CLASSIFIER, **changes)
    ours = gpt2(tmp_path, AutoModelForSequenceClassification)
    output, backward = ours(**BATCH, labels=labels)
    expected = theirs(**tensors(BATCH), labels=torch.tensor(labels))
    assert_close(output.loss, expected.loss, LOSS)
    backward()
    expected.loss.backward()
    assert_same_gradients(ours, theirs, BACKWARD)


def test_the_body_alone_agrees_and_pads_with_zeros(tmp_path: Path) -> None:
    theirs = reference_gpt2(tmp_path, "GPT2Model")
    ours = GPT2Model.from_pretrained(tmp_path, dtype=np.float64)
    output, backward = ours(**BATCH)
    expected = theirs(**tensors(BATCH)).last_hidden_state
    assert_close(output.last_hidden_state[REAL], expected[torch.tensor(REAL)], FORWARD)
    assert not output.last_hidden_state[~REAL].any()
    dhidden = np.random.default_rng(0).standard_normal((3, 5, 24)) * REAL[..., None]
    backward(dhidden)
    (expected * torch.tensor(dhidden)).sum().backward()
    assert_same_gradients(ours, theirs, BACKWARD)


def rewrite(directory: Path, change: Any) -> None:
    path = directory / "model.safetensors"
    save_file(change({name: np.array(value) for name, value in load_file(path).items()}), path)


def with_masks(state: dict[str, Any]) -> dict[str, Any]:
    prefix = "transformer." if "transformer.wte.weight" in state else ""
    masks = {f"{prefix}h.{i}.attn.bias": np.tri(9)[None, None] for i in range(2)}
    return {**state, **masks, **{f"{prefix}h.{i}.attn.masked_bias": np.array(-1e4) for i in range(2)}}


def without_prefix(state: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("transformer."): value for name, value in state.items()}


def with_the_head_twice(state: dict[str, Any]) -> dict[str, Any]:
    return {**state, "lm_head.weight": state["transformer.wte.weight"]}


CHANGES = [without_prefix, with_masks, lambda state: with_masks(without_prefix(state)), with_the_head_twice]


@pytest.mark.parametrize("change", CHANGES, ids=["no prefix", "masks", "masks, no prefix", "head"])
def test_files_of_every_kind_load_the_same(tmp_path: Path, change: Any, caplog: pytest.LogCaptureFixture) -> None:
    expected = reference_gpt2(tmp_path)(**tensors(BATCH)).logits[torch.tensor(REAL)]
    rewrite(tmp_path, change)
    with caplog.at_level(logging.WARNING, "npora"):
        assert_close(gpt2(tmp_path)(**BATCH)[0].logits[REAL], expected, FORWARD)
    assert not caplog.records


def test_a_classifier_takes_the_body_of_a_language_model_and_draws_its_head(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = reference_gpt2(tmp_path)
    rewrite(tmp_path, without_prefix)
    with caplog.at_level(logging.WARNING, "npora"):
        ours = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3, dtype=np.float64)
        ours(**BATCH)
    assert "newly initialised" in caplog.text and "score.weight" in caplog.text
    assert ours.score.weight.shape == (3, 24)
    expected = theirs.transformer(**tensors(BATCH)).last_hidden_state[torch.tensor(REAL)]
    assert_close(ours.transformer(**BATCH)[0].last_hidden_state[REAL], expected, FORWARD)


@pytest.mark.parametrize("changes", [{}, {"tie_word_embeddings": False}], ids=str)
def test_what_npora_saves_transformers_loads(tmp_path: Path, changes: dict[str, Any]) -> None:
    expected = reference_gpt2(tmp_path / "theirs", **changes)(**tensors(BATCH)).logits
    gpt2(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    again = type(reference_gpt2(tmp_path / "x")).from_pretrained(tmp_path / "ours", dtype=torch.float64)
    assert_close(expected.detach().numpy(), again(**tensors(BATCH)).logits, FORWARD)
    names = [sorted(load_file(tmp_path / name / "model.safetensors")) for name in ("ours", "theirs")]
    assert names[0] == names[1]
