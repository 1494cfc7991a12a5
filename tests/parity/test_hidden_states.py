"""The rows of every layer are transformers' hidden states, in every family and task, and asking changes nothing."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npora
from npora.models.auto import AutoModelForSeq2SeqLM
from tests.parity.reference import assert_close, torch, transformers, widen

MASK = np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 1, 0, 0]])
IDS = np.array([[7, 3, 44, 9, 12], [31, 2, 2, 2, 2], [5, 6, 49, 2, 2]])
SMALL = {"hidden_size": 24, "num_attention_heads": 4, "intermediate_size": 20, "num_hidden_layers": 3}
KEYED = {"num_key_value_heads": 2, "head_dim": 6}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", {**SMALL, **NO_DROPOUT, "max_position_embeddings": 9, "pad_token_id": 2}),
    "roberta": ("Roberta", {**SMALL, **NO_DROPOUT, "max_position_embeddings": 9, "pad_token_id": 2}),
    "electra": ("Electra", {**SMALL, **NO_DROPOUT, "embedding_size": 14, "max_position_embeddings": 9}),
    "mpnet": ("MPNet", {**SMALL, **NO_DROPOUT, "max_position_embeddings": 9}),
    "deberta-v2": ("DebertaV2", {**SMALL, **NO_DROPOUT, "num_attention_heads": 2, "max_position_embeddings": 9,
                                 "relative_attention": True, "pos_att_type": "p2c|c2p", "share_att_key": True}),
    "modernbert": ("ModernBert", {**SMALL, "local_attention": 2, "pad_token_id": 2}),
    "distilbert": ("DistilBert", {"dim": 24, "n_heads": 4, "hidden_dim": 20, "n_layers": 3, "dropout": 0.0,
                                  "attention_dropout": 0.0, "max_position_embeddings": 9, "pad_token_id": 2}),
    "gpt2": ("GPT2", {"n_embd": 24, "n_head": 4, "n_layer": 3, "n_positions": 9, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
                      "attn_pdrop": 0.0, "pad_token_id": 2}),
    "llama": ("Llama", {**SMALL, **KEYED, "pad_token_id": 2}),
    # √16, by which embeddings are scaled, is the same in float32.
    "gemma3": ("Gemma3", {**SMALL, **KEYED, "hidden_size": 16, "query_pre_attn_scalar": 6, "sliding_window": 3,
                          "pad_token_id": 2}),
}  # fmt: skip


def pair(name: str, task: str, path: Path) -> tuple[Any, Any]:
    prefix, sizes = FAMILIES[name]
    config_class = "Gemma3TextConfig" if name == "gemma3" else f"{prefix}Config"
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**{"vocab_size": 50, "num_labels": 3, **sizes})
    kind = {"CausalLM": "LMHeadModel"}.get(task, f"For{task}") if name == "gpt2" else f"For{task}"
    theirs = getattr(transformers, prefix + kind)(config).double().eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64))
    theirs.save_pretrained(path)
    return getattr(npora, f"AutoModelFor{task}").from_pretrained(path, dtype=np.float64), theirs


def assert_same_states(found: Any, expected: Any) -> None:
    assert len(found) == len(expected) == 4
    for ours, theirs in zip(found, expected, strict=True):
        assert not ours[MASK == 0].any()
        assert_close(ours[MASK == 1], theirs[torch.tensor(MASK == 1)], 1e-11)  # of sizes up to 10


@pytest.mark.parametrize(
    ("name", "task"),
    [("bert", "MaskedLM"), ("bert", "SequenceClassification"), ("roberta", "TokenClassification"),
     ("electra", "MaskedLM"), ("mpnet", "MaskedLM"), ("deberta-v2", "MaskedLM"), ("modernbert", "TokenClassification"),
     ("distilbert", "MaskedLM"), ("gpt2", "CausalLM"),
     ("gpt2", "SequenceClassification"), ("llama", "CausalLM"),
     ("llama", "TokenClassification"), ("gemma3", "CausalLM")],
)  # fmt: skip
def test_hidden_states_are_transformers_and_change_nothing(
    name: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in ("llama", "gemma3"):
        widen(monkeypatch, importlib.import_module(f"transformers.models.{name}.modeling_{name}"))
    ours, theirs = pair(name, task, tmp_path)
    inputs = {"input_ids": IDS, "attention_mask": MASK}
    with torch.no_grad():
        expected = theirs(**{key: torch.tensor(value) for key, value in inputs.items()}, output_hidden_states=True)
    rows = np.array([2, 0, 1]) if task == "SequenceClassification" else np.where(MASK == 1, IDS % 3, -100)
    for labels in (None, rows):
        ours.zero_grad()
        output, backward = ours(**inputs, labels=labels, output_hidden_states=True)
        assert_same_states(output.hidden_states, expected.hidden_states)
        plain, back_plain = ours(**inputs, labels=labels)
        assert plain.hidden_states is None
        np.testing.assert_allclose(output.logits, plain.logits, rtol=0, atol=1e-12)
        dy = () if labels is not None else (np.random.default_rng(0).standard_normal(plain.logits.shape),)
        backward(*dy)
        gradients = {n: p.grad.copy() for n, p in ours.named_parameters() if p.grad is not None}
        ours.zero_grad()
        back_plain(*dy)
        for n, parameter in ours.named_parameters():
            if parameter.grad is not None:
                np.testing.assert_allclose(gradients[n], parameter.grad, rtol=1e-9, atol=1e-10)
    body = ours.body(**inputs, output_hidden_states=True)[0]
    assert_same_states(body.hidden_states, expected.hidden_states)
    np.testing.assert_array_equal(body.hidden_states[-1], body.last_hidden_state)


@pytest.mark.usefixtures("t5_norm_in_float64")
def test_an_encoder_decoder_has_those_of_both(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = transformers.T5Config(
        vocab_size=50, d_model=24, d_kv=5, num_heads=3, d_ff=20, num_layers=3, dropout_rate=0.0,
        decoder_start_token_id=0,
    )  # fmt: skip
    theirs = transformers.T5ForConditionalGeneration(config).double().eval()
    theirs.save_pretrained(tmp_path)
    ours: Any = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=np.float64)
    inputs = {"input_ids": IDS, "attention_mask": MASK, "labels": np.where(MASK == 1, IDS[::-1], -100)}
    with torch.no_grad():
        expected = theirs(**{key: torch.tensor(value) for key, value in inputs.items()}, output_hidden_states=True)
    for model in (ours, npora.get_peft_model(ours, npora.LoraConfig(r=2))):
        output, backward = model(**inputs, output_hidden_states=True)
        assert output.loss == pytest.approx(expected.loss.item(), rel=1e-12) and output.hidden_states is None
        assert_same_states(output.encoder_hidden_states, expected.encoder_hidden_states)
        assert_same_states(output.decoder_hidden_states, expected.decoder_hidden_states)
        assert np.isfinite(output.logits).all()
        backward()
