"""Llama: a real checkpoint's own words, LoRA on it, generation with a cache, and configs that are refused."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, get_peft_model, no_grad
from npora.files import load_file, save_file
from npora.models import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification
from npora.nn import Cache, Packing
from npora.nn.functional import swiglu
from npora.optim import AdamW
from tests.shared_data import data

SMALL: dict[str, Any] = {
    "vocab_size": 31, "hidden_size": 12, "intermediate_size": 14, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 6,
}  # fmt: skip


def small(**changes: Any) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**{**SMALL, **changes}), rng=1, dtype=np.float64)


def greedy(model: LlamaForCausalLM, ids: list[int], length: int, cached: bool) -> list[int]:
    ids, cache, known = list(ids), Cache(), 0
    with no_grad():
        while len(ids) < length:
            if not cached:
                cache, known = Cache(), 0
            new = np.array(ids[known:])
            known = len(ids)
            ids.append(int(model.next_logits(new, Packing.dense(1, len(new)), cache).argmax()))
    return ids


def sha256(model: Any) -> str:
    digest = hashlib.sha256()
    for parameter in model.parameters():
        if not parameter.requires_grad:
            digest.update(parameter.data.tobytes())
    return digest.hexdigest()


@pytest.fixture
def stories() -> Path:
    return data("checkpoints", "stories260K")


@pytest.mark.parametrize("cached", [True, False])
def test_a_real_llama_says_the_words_that_transformers_has_it_say(stories: Path, cached: bool) -> None:
    expected = json.loads((stories / "greedy_reference.json").read_text())["greedy_ids"]
    assert greedy(LlamaForCausalLM.from_pretrained(stories), expected[:1], len(expected), cached) == expected


def test_lora_on_a_real_llama_lowers_the_loss_and_leaves_the_frozen_bytes(stories: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(stories)
    text = data("shakespeare", "input.txt").read_bytes()[: 6 * 8 * 65]
    # Llama's vocabulary begins with three special tokens, and then the 256 bytes.
    blocks = 3 + np.frombuffer(text, np.uint8).astype(np.int64).reshape(6, 8, 65)
    peft = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM"))
    frozen, trained = sha256(peft), [p for p in peft.parameters() if p.requires_grad]
    optimizer = AdamW(trained, lr=1e-2)
    held_out = blocks[5]
    before = float(peft(held_out, labels=held_out)[0].loss)
    for step in range(15):
        peft.zero_grad()
        _, backward = peft(blocks[step % 5], labels=blocks[step % 5])
        backward()
        optimizer.step()
    assert float(peft(held_out, labels=held_out)[0].loss) < 0.8 * before
    assert sha256(peft) == frozen
    with peft.disable_adapter():
        assert float(peft(held_out, labels=held_out)[0].loss) == before


def test_generation_with_a_cache_gives_the_logits_of_the_whole_for_unequal_prompts() -> None:
    model, rng, cache = small(), np.random.default_rng(0), Cache()
    rows = [[3, 8, 5, 1], [30], [2, 2, 9]]
    new, packing = np.concatenate(rows), Packing.of_lengths([4, 1, 3])
    for _ in range(4):
        logits = model.next_logits(new, packing, cache)
        for row, ids in zip(logits, rows, strict=True):
            whole = model(np.array([ids]))[0].logits[0, -1]
            np.testing.assert_allclose(row, whole, rtol=0, atol=1e-13)  # values below 1, two layers
        new, packing = rng.integers(0, 31, 3), Packing.dense(3, 1)
        for ids, token in zip(rows, new, strict=True):
            ids.append(int(token))


def test_scores_see_the_difference_of_two_positions_alone() -> None:
    model, ids = small(), np.array([[3, 8, 5, 1, 30]])
    near, far, wider = (
        model(ids, position_ids=p)[0].logits for p in (np.arange(5), np.arange(5) + 100, 2 * np.arange(5))
    )
    np.testing.assert_allclose(near, far, rtol=0, atol=1e-13)
    assert np.abs(near - wider).max() > 1e-6


def test_a_bias_of_the_keys_is_turned_and_so_is_seen() -> None:
    """BERT's and GPT-2's adds the same to all of a query's scores, and has no gradient."""
    model, ids = small(attention_bias=True), np.array([[3, 8, 5, 1, 30]])
    model(ids, labels=ids)[1]()
    gradient = model.model.layers[0].self_attn.k_proj.bias.grad
    assert gradient is not None and np.abs(gradient).max() > 1e-9
    assert not hasattr(model.model.layers[0].self_attn, "idle_parameters")


def test_swiglu_by_hand() -> None:
    y, backward = swiglu(np.array([0.0, 2.0]), np.array([3.0, 5.0]))
    silu = 2 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(y, [0, 5 * silu], rtol=1e-15)
    dgate, dup = backward(np.array([7.0, 1.0]))
    np.testing.assert_allclose(dup, [0, silu], rtol=1e-15)
    np.testing.assert_allclose(dgate[0], 7 * 3 / 2, rtol=1e-15)  # silu′(0) = 1/2
    assert (backward(y)[1] @ np.array([3.0, 5.0])).round(12) == (y @ y).round(12)  # Σ dup ⊙ up = Σ dy ⊙ y


def test_a_tied_model_is_written_without_its_head_and_reads_either_way(tmp_path: Path) -> None:
    model, ids = small(tie_word_embeddings=True), np.array([[3, 8, 5]])
    model.save_pretrained(tmp_path)
    state = {name: np.array(value) for name, value in load_file(tmp_path / "model.safetensors").items()}
    assert "lm_head.weight" not in state and model.lm_head.weight is model.model.embed_tokens.weight
    expected = model(ids)[0].logits
    for extra in ({}, {"lm_head.weight": state["model.embed_tokens.weight"]}):
        save_file({**state, **extra}, tmp_path / "model.safetensors")
        again = LlamaForCausalLM.from_pretrained(tmp_path, dtype=np.float64)
        assert again(ids)[0].logits.tobytes() == expected.tobytes()
    save_file({**state, "lm_head.weight": state["model.embed_tokens.weight"] + 1}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"lm_head\.weight and model\.embed_tokens\.weight, which this model ties"):
        LlamaForCausalLM.from_pretrained(tmp_path)


def test_an_untied_model_has_a_head_of_its_own_which_its_file_must_hold(tmp_path: Path) -> None:
    model = small()
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert np.abs(model.lm_head.weight.data).max() > 0
    model.save_pretrained(tmp_path)
    state = {name: np.array(value) for name, value in load_file(tmp_path / "model.safetensors").items()}
    del state["lm_head.weight"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing: lm_head\.weight"):
        LlamaForCausalLM.from_pretrained(tmp_path)


def test_the_body_of_a_language_model_takes_a_new_classifier(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small().save_pretrained(tmp_path)
    model = LlamaForSequenceClassification.from_pretrained(tmp_path, num_labels=3, pad_token_id=0)
    assert "not used by LlamaForSequenceClassification: lm_head.weight" in caplog.text
    assert model(np.array([[3, 8, 5], [4, 0, 0]]))[0].logits.shape == (2, 3)
    assert model.newly_initialized == ("score.weight",)


def test_the_defaults_are_llama_2_7bs_and_a_config_reads_back_what_it_writes() -> None:
    config = LlamaConfig()
    assert vars(config) == {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "attention_bias": False, "attention_dropout": 0.0,
        "mlp_bias": False, "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None,
        "num_labels": 2, "problem_type": None, "initializer_range": 0.02, "id2label": {0: "LABEL_0", 1: "LABEL_1"},
        "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "kept": {}, "hidden_act": "silu",
        "rope_scaling": None,
    }  # fmt: skip
    odd = LlamaConfig(**SMALL, rope_theta=7.0, tie_word_embeddings=True, num_labels=3)
    for written in (config, odd):
        assert LlamaConfig.from_dict(written.to_dict()) == written


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_act": "gelo"}, "hidden_act 'gelo' is not one of"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple of num_key_value_heads 3"),
        ({"head_dim": None, "hidden_size": 13}, "hidden_size 13 is not a multiple of num_attention_heads 4"),
        ({"head_dim": 5}, "head_dim must be a positive even number, to be turned; got 5"),
        ({"head_dim": 0}, "head_dim must be a positive even number, to be turned; got 0"),
        ({"num_attention_heads": 0, "head_dim": None}, "num_attention_heads must be a positive whole number; got 0"),
    ],
)
def test_a_config_that_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        LlamaConfig.from_dict({**SMALL, **fields})
