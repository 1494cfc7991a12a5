"""Where nothing below the lowest adapted layer is trained, the products for its input's gradient are left out, and no
other gradient changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, get_peft_model
from npora.models import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, T5Config, T5ForConditionalGeneration
from npora.models.llama import LlamaConfig
from npora.nn import linear
from npora.nn.module import Array
from tests.cases.case import randomized
from tests.tiny_encoders import tiny_encoder

IDS = np.random.default_rng(0).integers(3, 13, (3, 5))


def encoder(family: str) -> Callable[[], Any]:
    return lambda: tiny_encoder(family, "SequenceClassification", np.float64)


def gpt2() -> Any:
    config = GPT2Config(vocab_size=13, n_positions=6, n_embd=6, n_layer=2, n_head=3, n_inner=7)
    return randomized(GPT2LMHeadModel(config, rng=1, dtype=np.float64))


def llama() -> Any:
    config = LlamaConfig(
        vocab_size=13, hidden_size=6, intermediate_size=5, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=4,
    )  # fmt: skip
    return randomized(LlamaForCausalLM(config, rng=1, dtype=np.float64))


def t5() -> Any:
    config = T5Config(vocab_size=13, d_model=6, d_kv=3, d_ff=7, num_layers=2, num_heads=2)
    return randomized(T5ForConditionalGeneration(config, rng=1, dtype=np.float64))


# What stands below the lowest layer, that layer's first norm where it comes before the products, and how many products
# read the layer's input.
FAMILIES: dict[str, tuple[Callable[[], Any], str, str | None, int]] = {
    "BERT": (encoder("bert"), "bert.embeddings", None, 3),
    "RoBERTa": (encoder("roberta"), "roberta.embeddings", None, 3),
    "DistilBERT": (encoder("distilbert"), "distilbert.embeddings", None, 3),
    "GPT-2": (gpt2, "transformer.wpe", "transformer.h.0.ln_1", 1),
    "Llama": (llama, "model.embed_tokens", "model.layers.0.input_layernorm", 3),
    "T5": (
        t5, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias", "encoder.block.0.layer.0.layer_norm", 3
    ),
}  # fmt: skip


def named(model: Any, path: str) -> Any:
    for part in path.split("."):
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model


def trained(family: str, *also: str, monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Array], int]:
    """The gradients of the adapters, and of what is `also` trained; and the number of large products in backward."""
    base = FAMILIES[family][0]()
    model = get_peft_model(base, LoraConfig(r=2, target_modules=base.default_target_modules))
    randomized(model)
    for path in also:
        named(base, path).requires_grad_()
    output, backward = model(IDS, labels=IDS[:, 0] % 3 if "BERT" in family else IDS)
    calls = []
    matmul = linear.matmul
    with monkeypatch.context() as patch:
        patch.setattr(linear, "matmul", lambda x, W: (calls.append(W.shape), matmul(x, W))[1])
        backward()
    assert output.loss > 0
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, len(calls)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_nobody_reads_is_not_computed_and_changes_nothing(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, below, norm, products = FAMILIES[family]
    found, fewer = trained(family, monkeypatch=monkeypatch)
    expected, number = trained(family, below, monkeypatch=monkeypatch)
    assert number - fewer == products
    assert any("lora_A" in name and ".0." in name for name in found) and len(expected) > len(found)
    for name, gradient in found.items():
        assert gradient.any() and gradient.tobytes() == expected[name].tobytes(), name
    if norm is not None:  # it reads what the products below it give
        more, all_of_them = trained(family, norm, monkeypatch=monkeypatch)
        both, _ = trained(family, norm, below, monkeypatch=monkeypatch)
        assert all_of_them == number and len(more) > len(found)
        for name, gradient in more.items():
            assert gradient.any() and gradient.tobytes() == both[name].tobytes(), name


@pytest.mark.parametrize(
    ("family", "saved"), [("GPT-2", ["wte", "wpe"]), ("Llama", ["embed_tokens"]), ("BERT", ["word_embeddings"])]
)
def test_an_embedding_may_be_trained_beside_the_adapters(family: str, saved: list[str]) -> None:
    base = FAMILIES[family][0]()
    targets = base.default_target_modules
    model = randomized(get_peft_model(base, LoraConfig(r=2, target_modules=targets, modules_to_save=saved)))
    _, backward = model(IDS, labels=IDS[:, 0] % 3 if family == "BERT" else IDS)
    backward()
    found = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert all(any(f".{name}.modules_to_save.default.weight" in each for each in found) for name in saved)
    assert any("lora_A" in name and ".0." in name for name in found)
