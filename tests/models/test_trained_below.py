"""What is trained below the lowest adapted layer gets its gradient, and changes no bit of any other's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, get_peft_model
from npora.models import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, T5Config, T5ForConditionalGeneration
from npora.models.families.llama import LlamaConfig
from npora.nn.module import Array
from tests.tiny import randomized
from tests.tiny_decoders import tiny_decoder
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


# What stands below the lowest layer, and that layer's first norm where it comes before the products.
FAMILIES: dict[str, tuple[Callable[[], Any], str, str | None]] = {
    "BERT": (encoder("bert"), "bert.embeddings", None),
    "RoBERTa": (encoder("roberta"), "roberta.embeddings", None),
    "ELECTRA's BERT": (encoder("electra"), "electra.embeddings", None),
    "ELECTRA's BERT, projected": (encoder("electra"), "electra.embeddings_project", None),
    "MPNet, no BERT": (encoder("mpnet"), "mpnet.embeddings", None),
    "MPNet's bias, no BERT": (encoder("mpnet"), "mpnet.encoder.relative_attention_bias", None),
    "DeBERTa, no BERT": (encoder("deberta-v2"), "deberta.embeddings", None),
    "DeBERTa's distances, no BERT": (encoder("deberta-v2"), "deberta.encoder.rel_embeddings", None),
    "DeBERTa's norm of distances, no BERT": (encoder("deberta-v2"), "deberta.encoder.LayerNorm", None),
    "ModernBERT": (encoder("modernbert"), "model.embeddings", None),
    "DistilBERT": (encoder("distilbert"), "distilbert.embeddings", None),
    "GPT-2": (gpt2, "transformer.wpe", "transformer.h.0.ln_1"),
    "Llama": (llama, "model.embed_tokens", "model.layers.0.input_layernorm"),
    "Qwen3": (partial(tiny_decoder, "qwen3"), "model.embed_tokens", "model.layers.0.input_layernorm"),
    "Phi-3": (partial(tiny_decoder, "phi3"), "model.embed_tokens", "model.layers.0.input_layernorm"),
    "OLMo 2": (partial(tiny_decoder, "olmo2"), "model.embed_tokens", None),
    "SmolLM3": (partial(tiny_decoder, "smollm3"), "model.embed_tokens", "model.layers.0.input_layernorm"),
    "Gemma 3": (partial(tiny_decoder, "gemma3_text"), "model.embed_tokens", "model.layers.0.input_layernorm"),
    "T5": (
        t5, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias", "encoder.block.0.layer.0.layer_norm"
    ),
}  # fmt: skip


def named(model: Any, path: str) -> Any:
    for part in path.split("."):
        model = model[int(part)] if part.isdigit() else getattr(model, part)
    return model


def trained(family: str, *also: str) -> dict[str, Array]:
    """The gradients of the adapters, and of what is `also` trained."""
    base = FAMILIES[family][0]()
    model = get_peft_model(base, LoraConfig(r=2, target_modules=base.default_target_modules))
    randomized(model)
    for path in also:
        named(base, path).requires_grad_()
    output, backward = model(IDS, labels=IDS[:, 0] % 3 if "BERT" in family else IDS)
    backward()
    assert output.loss > 0
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_trained_below_the_adapters_changes_none_of_their_gradients(family: str) -> None:
    _, *below = FAMILIES[family]
    found = trained(family)
    assert any("lora_A" in name and ".0." in name for name in found)
    for also in filter(None, below):
        more = trained(family, also)
        assert len(more) > len(found)
        for name, gradient in found.items():
            assert gradient.any() and gradient.tobytes() == more[name].tobytes(), name


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
