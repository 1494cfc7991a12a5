"""The encoders under each head against transformers, in float64."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora.files import load_file, save_file
from tests.models.test_encoders import DEFAULTS
from tests.parity.encoders import (
    BACKWARD,
    COMMON,
    FORWARD,
    LABELS,
    MASK,
    PREFIXES,
    SIZES,
    assert_same_logits,
    batch,
    every_family,
    every_head,
    ours,
    reference,
)
from tests.parity.reference import assert_close, assert_same_gradients, named, tensors, torch, transformers


@every_family
@every_head
def test_outputs_and_every_gradient_agree(tmp_path: Path, family: str, head: str) -> None:
    theirs = reference(family, head, tmp_path)
    model = ours(head, tmp_path)
    output, backward = model(**batch(family), labels=LABELS[head])
    expected = theirs(**tensors(batch(family)), labels=torch.tensor(LABELS[head]))
    assert_same_logits(output.logits, expected.logits)
    assert_close(output.loss, expected.loss, FORWARD)
    backward()
    expected.loss.backward()
    assert assert_same_gradients(model, theirs, BACKWARD) > (22 if family == "modernbert" else 36)
    without, _ = model(**batch(family))
    assert_same_logits(without.logits, expected.logits)


@every_family
@every_head
def test_a_model_saved_by_npora_is_the_same_in_transformers(tmp_path: Path, family: str, head: str) -> None:
    reference(family, head, tmp_path / "theirs")
    model = ours(head, tmp_path / "theirs")
    model.save_pretrained(tmp_path / "ours")
    again = getattr(transformers, f"AutoModelFor{head}").from_pretrained(tmp_path / "ours", dtype=torch.float64).eval()
    assert type(again).__name__ == type(model).__name__
    assert_same_logits(model(**batch(family))[0].logits, again(**tensors(batch(family))).logits)


@pytest.mark.parametrize(
    ("problem_type", "num_labels", "labels"),
    [
        ("single_label_classification", 3, np.array([2, -100, 1])),
        ("multi_label_classification", 3, np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])),
        ("regression", 3, np.array([[0.5, -2.0, 1.0], [3.0, 0.25, -1.0], [0.0, 4.0, 1.5]])),
        ("regression", 1, np.array([0.5, -2.0, 1.25])),
        ("regression", 1, np.array([[0.5], [-2.0], [1.25]])),
        (None, 3, np.array([2, 0, 1])),
        (None, 3, np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])),
        (None, 1, np.array([0.5, -2.0, 1.25])),
    ],
)
@every_family
def test_each_problem_type_has_transformers_loss_and_gradients(
    tmp_path: Path, family: str, problem_type: str | None, num_labels: int, labels: Any
) -> None:
    head = "SequenceClassification"
    theirs = reference(family, head, tmp_path, num_labels=num_labels, problem_type=problem_type)
    model = ours(head, tmp_path)
    assert model.config.problem_type == problem_type
    if family == "deberta-v2" and problem_type is None and num_labels > 1:
        if labels.ndim == 2:
            with pytest.raises(ValueError, match="transformers takes them as shares that sum to 1 in DeBERTa"):
                model(**batch(family), labels=labels)
            return
        theirs.config.problem_type = "single_label_classification"  # the same, but not in float32
    output, backward = model(**batch(family), labels=labels)
    expected = theirs(**tensors(batch(family)), labels=torch.tensor(labels))
    assert_close(output.loss, expected.loss, FORWARD)
    backward()
    expected.loss.backward()
    assert_same_gradients(model, theirs, BACKWARD)


@pytest.mark.parametrize(
    ("ids", "mask"),
    [
        ([[5, 9, 49, 1]], [[1, 1, 1, 0]]),
        ([[1, 1, 5, 9, 49]], [[0, 0, 1, 1, 1]]),  # padding on the left does not count
        ([[5, 1, 9, 1, 49]], [[1, 1, 1, 1, 1]]),  # nor does it between tokens, seen or not
        ([[7, 8, 5, 9, 49]], [[0, 0, 1, 1, 1]]),  # tokens that the mask alone hides do
    ],
)
def test_positions_of_roberta_are_counted_over_the_ids_that_are_no_padding(
    tmp_path: Path, ids: list[list[int]], mask: list[list[int]]
) -> None:
    given = {"input_ids": np.array(ids), "attention_mask": np.array(mask)}
    theirs = reference("roberta", "MaskedLM", tmp_path).roberta
    body = ours("MaskedLM", tmp_path).roberta
    hidden = body.rows(body.tokens(**given))[0]
    seen = torch.tensor(np.array(mask) == 1)
    assert_close(hidden, theirs(**tensors(given)).last_hidden_state[seen], FORWARD)


@every_family
@every_head
def test_positions_that_are_given_are_taken(tmp_path: Path, family: str, head: str) -> None:
    theirs, model = reference(family, head, tmp_path), ours(head, tmp_path)
    positions = np.array([[4, 8, 0, 2, 3], [6, 1, 1, 1, 1], [5, 7, 2, 0, 0]])  # as the padding token's in RoBERTa: 1
    for given in ({**batch(family), "position_ids": row} for row in (positions, positions[:1])):
        expected = theirs(**tensors(given), labels=torch.tensor(LABELS[head]))
        output, backward = model(**given, labels=LABELS[head])
        assert_same_logits(output.logits, expected.logits)
        theirs.zero_grad()
        model.zero_grad()
        expected.loss.backward()
        backward()
        assert_same_gradients(model, theirs, BACKWARD)
    if model.config.takes_any_length:
        return
    with pytest.raises(ValueError, match="a sequence of 10 tokens is longer than the 9 positions"):
        model(**batch(family), position_ids=positions + 1)


def test_the_last_position_of_roberta_is_used_and_the_next_is_an_error(tmp_path: Path) -> None:
    theirs = reference("roberta", "MaskedLM", tmp_path)
    model = ours("MaskedLM", tmp_path)
    longest = {"input_ids": np.full((1, 7), 5)}  # 9 positions, of which 0 and 1 hold no token
    assert_close(model(**longest)[0].logits, theirs(**tensors(longest)).logits, FORWARD)
    with pytest.raises(ValueError, match="a sequence of 8 tokens is longer than the 7 positions"):
        model(np.full((1, 8), 5))


def old_names(state: dict[str, Any]) -> dict[str, Any]:
    return {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in state.items()
    }


@pytest.mark.parametrize("head", ["TokenClassification", "SequenceClassification", "MaskedLM"])
def test_the_first_files_of_bert_load_for_every_head(
    tmp_path: Path, head: str, caplog: pytest.LogCaptureFixture
) -> None:
    """bert-base-uncased's file: gamma and beta, both heads of its pretraining, buffers, the decoder stored again."""
    theirs = transformers.BertForPreTraining(transformers.BertConfig(**{**COMMON, **SIZES["bert"]})).double().eval()
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = {name: np.array(value) for name, value in load_file(path).items()}
    words = state["bert.embeddings.word_embeddings.weight"]
    state.update({"cls.predictions.decoder.weight": words, "bert.embeddings.position_ids": np.arange(9)[None]})
    save_file(old_names(state), path)
    with caplog.at_level(logging.WARNING, "npora"):
        model = ours(head, tmp_path)
    unused = next((line for line in caplog.messages if "not used by" in line), "")
    assert "cls.seq_relationship.weight" in unused and "position_ids" not in unused
    assert ("cls.predictions.transform.LayerNorm.weight" in unused) == (head != "MaskedLM")
    assert ("bert.pooler.dense.weight" in unused) == (head != "SequenceClassification")
    expected = theirs(**tensors(batch("bert")))
    logits = model(**batch("bert"))[0].logits
    if head == "MaskedLM":
        assert "newly initialised" not in caplog.text
        assert_same_logits(logits, expected.prediction_logits)
    else:
        assert re.search(r"newly initialised, .*: classifier\.weight, classifier\.bias", caplog.text)
        hidden = model.bert.rows(model.bert.tokens(**batch("bert")))[0]
        assert_close(hidden, theirs.bert(**tensors(batch("bert"))).last_hidden_state[torch.tensor(MASK == 1)], FORWARD)


@every_family
def test_a_body_alone_gets_a_head_whose_norm_does_nothing_yet(
    tmp_path: Path, family: str, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = reference(family, "TokenClassification", tmp_path)
    prefix = theirs.base_model_prefix
    getattr(theirs, prefix).save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, "npora"):
        model = ours("MaskedLM", tmp_path)
        model(**batch(family))
    norms = [p for n, p in model.named_parameters() if not n.startswith(prefix) and "norm" in n.lower()]
    assert [(p.data == (1 if i == 0 else 0)).all() for i, p in enumerate(norms)] == [True] * len(norms)
    assert len(norms) == (1 if family == "modernbert" else 2)
    assert "newly initialised" in caplog.text


@every_family
def test_the_defaults_are_transformers(family: str) -> None:
    config = getattr(transformers, PREFIXES[family] + "Config")()
    assert {name: getattr(config, name, None) for name in DEFAULTS[family]} == DEFAULTS[family]


@every_family
def test_a_vocabulary_that_is_not_tied_has_a_matrix_and_a_bias_of_its_own(tmp_path: Path, family: str) -> None:
    """Outputs, gradients, names and files are transformers', and so is a bias that is there and goes unused."""
    theirs = reference(family, "MaskedLM", tmp_path / "theirs", tie_word_embeddings=False)
    model, labels = ours("MaskedLM", tmp_path / "theirs"), LABELS["MaskedLM"]
    output, backward = model(**batch(family), labels=labels)
    expected = theirs(**tensors(batch(family)), labels=torch.tensor(labels))
    assert_same_logits(output.logits, expected.logits)
    assert output.loss == pytest.approx(expected.loss.item(), rel=FORWARD)
    backward()
    expected.loss.backward()
    found = dict(model.named_parameters())
    assert found.keys() == named(theirs).keys()
    for name, parameter in named(theirs).items():
        if parameter.grad is None:
            assert found[name].grad is None and name in ("cls.predictions.bias", "lm_head.bias")
        else:
            assert_close(found[name].grad, parameter.grad, BACKWARD)
    model.save_pretrained(tmp_path / "ours")
    again, info = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True, dtype=torch.float64)
    assert not any(info.values()) and not again.config.tie_word_embeddings
    assert_close(model(**batch(family))[0].logits[MASK == 1],
                 again(**tensors(batch(family))).logits[torch.tensor(MASK == 1)], FORWARD)  # fmt: skip
    assert ours("MaskedLM", tmp_path / "ours").state_dict().keys() == model.state_dict().keys()


@every_family
def test_an_adapter_merged_into_the_vocabulary_unties_it_and_keeps_its_bias(tmp_path: Path, family: str) -> None:
    theirs = reference(family, "MaskedLM", tmp_path / "theirs")
    model = ours("MaskedLM", tmp_path / "theirs")
    target = model.output_embeddings.rpartition(".")[2]
    peft = npora.get_peft_model(model, npora.LoraConfig(r=2, target_modules=[target]))
    for name, parameter in peft.named_parameters():
        if "lora_B" in name:
            parameter.data = parameter.data + 0.5
    merged = peft.merge_and_unload()
    expected = merged(**batch(family))[0].logits
    merged.save_pretrained(tmp_path / "ours")
    again, info = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True, dtype=torch.float64)
    assert not any(info.values())
    assert_same_logits(expected, again(**tensors(batch(family))).logits)
    np.testing.assert_array_equal(ours("MaskedLM", tmp_path / "ours")(**batch(family))[0].logits, expected)


@every_family
def test_a_body_alone_gets_a_whole_head_that_is_not_tied(tmp_path: Path, family: str) -> None:
    reference(family, "TokenClassification", tmp_path, tie_word_embeddings=False)
    model = ours("MaskedLM", tmp_path)
    decoder = model.get_submodule(model.output_embeddings)
    assert decoder.weight is not model.body.embedding().weight and np.abs(decoder.weight.data).max() < 0.2
    assert {f"{model.output_embeddings}.weight", f"{model.output_embeddings}.bias"} <= set(model.newly_initialized)
