"""Rows in place of ids: outputs, and the gradient that backward returns for them, are transformers'."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora import LoraConfig, get_peft_model
from tests.parity.reference import assert_close, torch, transformers, widen
from tests.parity.test_hidden_states import FAMILIES, IDS, MASK, pair

REAL = MASK == 1
TASKS = {"bert": "MaskedLM", "roberta": "TokenClassification", "electra": "MaskedLM",
         "mpnet": "TokenClassification", "deberta-v2": "MaskedLM", "modernbert": "MaskedLM",
         "distilbert": "SequenceClassification",
         "gpt2": "CausalLM", "llama": "TokenClassification", "gemma3": "CausalLM"}  # fmt: skip


def drawn(width: int) -> np.ndarray:
    return np.random.default_rng(4).standard_normal((*IDS.shape, width))


@pytest.mark.parametrize("adapted", [False, True], ids=["trained", "adapted"])
@pytest.mark.parametrize("name", FAMILIES)
def test_outputs_and_gradients_are_those_of_transformers(
    name: str, adapted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the base need be trained for it, nor is an adapter on the embedding asked."""
    if name in ("llama", "gemma3"):
        widen(monkeypatch, importlib.import_module(f"transformers.models.{name}.modeling_{name}"))
    task = TASKS[name]
    ours, theirs = pair(name, task, tmp_path)
    if adapted:
        ours = get_peft_model(ours, LoraConfig(r=2, target_modules="all-linear"))
    embeds = drawn(getattr(ours.config, "embedding_size", ours.config.hidden_size))
    tensor = torch.tensor(embeds, requires_grad=True)
    expected = theirs(inputs_embeds=tensor, attention_mask=torch.tensor(MASK))
    output, backward = ours(inputs_embeds=embeds, attention_mask=MASK)
    real = ... if task == "SequenceClassification" else REAL
    assert_close(output.logits[real], expected.logits[torch.tensor(real) if real is REAL else ...], 1e-11)
    dy = np.random.default_rng(1).standard_normal(output.logits.shape)
    dy = dy if real is ... else dy * MASK[:, :, None]
    expected.logits.backward(torch.tensor(dy))
    for _ in range(2):  # each call returns its own
        gradient = backward(dy)
        assert gradient.shape == embeds.shape and not gradient[~REAL].any()
        assert_close(gradient[REAL], tensor.grad[torch.tensor(REAL)], 1e-9)  # slopes of up to 100


def test_with_labels_and_hidden_states_too(tmp_path: Path) -> None:
    ours, theirs = pair("gpt2", "CausalLM", tmp_path)
    embeds, labels = drawn(24), np.where(REAL, IDS % 7, -100)
    tensor = torch.tensor(embeds, requires_grad=True)
    expected = theirs(inputs_embeds=tensor, attention_mask=torch.tensor(MASK)).logits[:, :-1]
    keep = torch.tensor(labels[:, 1:] >= 0)
    loss = torch.nn.functional.cross_entropy(expected[keep], torch.tensor(labels)[:, 1:][keep])
    loss.backward()
    output, backward = ours(inputs_embeds=embeds, attention_mask=MASK, labels=labels, output_hidden_states=True)
    assert output.loss == pytest.approx(loss.item(), rel=1e-12)
    gradient = backward()
    assert_close(gradient[REAL], tensor.grad[torch.tensor(REAL)], 1e-11)
    positions = ours.transformer.wpe.weight.data[np.arange(5)]
    np.testing.assert_allclose(output.hidden_states[0][REAL], (embeds + positions)[REAL], rtol=1e-14)
    words = ours.transformer.wte.weight
    given, back_given = ours(inputs_embeds=words.data[IDS], attention_mask=MASK, labels=labels)
    looked_up, back = ours(input_ids=IDS, attention_mask=MASK, labels=labels)
    assert given.loss == looked_up.loss
    assert back() is None and back_given().shape == embeds.shape


@pytest.mark.usefixtures("t5_norm_in_float64")
def test_an_encoder_decoders_are_its_encoders(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = transformers.T5Config(
        vocab_size=50, d_model=24, d_kv=5, num_heads=3, d_ff=20, num_layers=2, dropout_rate=0.0,
        decoder_start_token_id=0,
    )  # fmt: skip
    theirs = transformers.T5ForConditionalGeneration(config).double().eval()
    theirs.save_pretrained(tmp_path)
    ours: Any = npora.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=np.float64)
    again: Any = npora.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=np.float64)
    in_the_decoder_alone = get_peft_model(again, LoraConfig(r=2, target_modules=r"decoder\..*\.q"))
    embeds, labels = drawn(24), np.where(REAL, IDS[::-1], -100)
    tensor = torch.tensor(embeds, requires_grad=True)
    expected = theirs(inputs_embeds=tensor, attention_mask=torch.tensor(MASK), labels=torch.tensor(labels))
    expected.loss.backward()
    for model in (ours, in_the_decoder_alone):
        output, backward = model(inputs_embeds=embeds, attention_mask=MASK, labels=labels)
        assert output.loss == pytest.approx(expected.loss.item(), rel=1e-12)
        assert_close(backward()[REAL], tensor.grad[torch.tensor(REAL)], 1e-11)


def test_ids_and_rows_are_one_or_the_other(tmp_path: Path) -> None:
    ours, _ = pair("bert", "MaskedLM", tmp_path)
    for inputs in ({}, {"input_ids": IDS, "inputs_embeds": drawn(24)}):
        with pytest.raises(ValueError, match="input_ids or inputs_embeds: give one of them, and not both"):
            ours(**inputs, attention_mask=MASK)
    with pytest.raises(ValueError, match=r"inputs_embeds must be \[batch, length, width\]; got shape \(3, 5\)"):
        ours(inputs_embeds=IDS * 1.0)
