"""Every family that generates: with its cache as without, together as one by one, with its adapter and without."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, get_peft_model
from npora.models import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)
from tests.tiny_decoders import WINDOWED, tiny_decoder

FAMILIES: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=13, n_positions=40, n_embd=8, n_layer=2, n_head=2, eos_token_id=1, pad_token_id=0), rng=0
    ),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=13, hidden_size=8, intermediate_size=11, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, eos_token_id=1, pad_token_id=0,
        ),
        rng=0,
    ),
    **{name: partial(tiny_decoder, name, dtype=np.float32) for name in WINDOWED},
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=13, d_model=8, d_kv=3, num_heads=2, d_ff=11, num_layers=2), rng=0
    ),
}  # fmt: skip
MASK = np.array([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 1]])
PROMPTS = np.random.default_rng(5).integers(2, 13, MASK.shape) * MASK


def made(name: str) -> Any:
    """In float64, with weights of a size at which the tokens differ."""
    model = FAMILIES[name]()
    rng = np.random.default_rng(3)
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float64) + 0.7 * rng.standard_normal(parameter.shape)
    return model


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("beams", [1, 3])
def test_the_cache_changes_no_token(name: str, beams: int) -> None:
    model = made(name)
    options = {"max_new_tokens": 12, "num_beams": beams}
    cached = model.generate(PROMPTS, MASK, **options)
    assert np.array_equal(cached, model.generate(PROMPTS, MASK, use_cache=False, **options))
    assert len(np.unique(cached)) > 3


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_gives_what_its_prompts_give_alone(name: str) -> None:
    model = made(name)
    options = {"max_new_tokens": 9, "eos_token_id": []}  # nothing ends early
    together = model.generate(PROMPTS, MASK, **options)[:, -9:]
    for prompt, mask, row in zip(PROMPTS, MASK.astype(bool), together, strict=True):
        alone = model.generate(prompt[mask][None], np.ones((1, mask.sum())), **options)
        assert row.tolist() == alone[0, -9:].tolist()


@pytest.mark.parametrize("name", FAMILIES)
def test_an_adapter_generates_and_switched_off_leaves_the_bases_tokens(name: str) -> None:
    model = made(name)
    before = model.generate(PROMPTS, MASK, max_new_tokens=9)
    peft = get_peft_model(model, LoraConfig(r=2, lora_alpha=16))
    assert np.array_equal(peft.generate(PROMPTS, MASK, max_new_tokens=9), before)  # B is zero
    rng = np.random.default_rng(4)
    for parameter in peft.parameters():
        if parameter.requires_grad:
            parameter.data = rng.standard_normal(parameter.shape)
    assert not np.array_equal(peft.generate(PROMPTS, MASK, max_new_tokens=9), before)
    with peft.disable_adapter():
        assert np.array_equal(peft.generate(PROMPTS, MASK, max_new_tokens=9), before)
