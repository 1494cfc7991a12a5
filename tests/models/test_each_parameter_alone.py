"""Every family under every head: a parameter has the same gradient whatever else is trained, an upstream gradient
scales all of them, and whatever layer an adapter is on drops out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npora import LoraConfig, get_peft_model, models
from npora.nn import Linear
from npora.nn.module import Array
from tests import tiny_decoders as decoders

_BERT: dict[str, Any] = {
    "vocab_size": 13, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 7,
    "max_position_embeddings": 9, "num_labels": 3, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    "pad_token_id": 0,
}  # fmt: skip
_T5: dict[str, Any] = {
    "vocab_size": 13, "d_model": 6, "d_kv": 4, "d_ff": 7, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 2,
    "num_labels": 3, "relative_attention_num_buckets": 6, "relative_attention_max_distance": 5, "dropout_rate": 0.0,
    "classifier_dropout": 0.0, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0,
}  # fmt: skip
LLAMAS = ("Mistral", "Olmo2", "Phi3", "Qwen2", "Qwen3", "SmolLM3")
SIZES: dict[str, dict[str, Any]] = {
    "Bert": _BERT,
    "Roberta": {**_BERT, "type_vocab_size": 1},
    "XLMRoberta": _BERT,
    "Electra": {**_BERT, "embedding_size": 4},
    "MPNet": {**_BERT, "pad_token_id": 1},
    "DebertaV2": {
        **_BERT, "relative_attention": True, "position_buckets": 4, "pos_att_type": "p2c|c2p", "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    "ModernBert": {
        "vocab_size": 13, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 7,
        "local_attention": 2, "num_labels": 3, "pad_token_id": 0, "norm_bias": True, "mlp_bias": True,
    },
    "DistilBert": {
        "vocab_size": 13, "dim": 6, "n_layers": 2, "n_heads": 2, "hidden_dim": 7, "max_position_embeddings": 9,
        "num_labels": 3, "dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0,
    },
    "GPT2": {
        "vocab_size": 13, "n_positions": 9, "n_embd": 6, "n_layer": 2, "n_head": 3, "n_inner": 7, "num_labels": 3,
        "pad_token_id": 0, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
    },
    "Llama": {
        "vocab_size": 13, "hidden_size": 6, "intermediate_size": 7, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 2, "attention_bias": True, "mlp_bias": True, "num_labels": 3,
        "pad_token_id": 0,
    },
    **{name: {**decoders.SIZES, **decoders.OWN[name.lower()]} for name in LLAMAS},
    "Gemma3Text": {**decoders.SIZES, **decoders.OWN["gemma3_text"]},
    "T5": _T5,
    "T5 gated": {**_T5, "feed_forward_proj": "gated-gelu"},
}  # fmt: skip
HEADS = {
    **dict.fromkeys(
        ("Bert", "Roberta", "Electra", "MPNet", "DebertaV2", "ModernBert", "DistilBert"),
        ("SequenceClassification", "TokenClassification", "MaskedLM"),
    ),
    "XLMRoberta": ("SequenceClassification",),
    "GPT2": ("SequenceClassification", "LMHeadModel"), "Gemma3Text": ("SequenceClassification",),
    **dict.fromkeys(("Llama", *LLAMAS), ("SequenceClassification", "CausalLM")),
    "T5": ("SequenceClassification", "ConditionalGeneration"), "T5 gated": ("ConditionalGeneration",),
}  # fmt: skip
CASES = [(family, head) for family, heads in HEADS.items() for head in heads]
IDS = np.array([[5, 3, 9, 2, 1], [4, 7, 1, 0, 0], [8, 8, 6, 1, 0]])
MASK = (IDS != 0).astype(int)


def tiny(family: str, head: str, **changes: Any) -> Any:
    """Every parameter away from the zeros and ones that it starts with."""
    family, sizes = family.removesuffix(" gated"), SIZES[family]
    config = getattr(models, f"{family}Config")(**{**sizes, **changes})
    name = head if head.endswith("Model") else f"For{head}"
    model = getattr(models, family + name)(config, rng=1, dtype=np.float64)
    rng = np.random.default_rng(7)
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.4 * rng.standard_normal(parameter.shape)
    return model


def batch(head: str) -> dict[str, Any]:
    labels = np.array([2, 0, 1])
    if head != "SequenceClassification":
        labels = np.where(MASK == 1, (IDS * 5 + 2) % (3 if head.startswith("Token") else 13), -100)
    return {"input_ids": IDS, "attention_mask": MASK, "labels": labels}


def gradients(model: Any, head: str, dloss: float = 1.0) -> dict[str, Array]:
    model.zero_grad()
    model(**batch(head))[1](dloss)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("family", "head", "recompute"), [(*case, False) for case in CASES] + [(*case, True) for case in CASES[2::3]]
)
def test_a_parameter_that_is_trained_alone_has_the_gradient_that_it_has_among_all(
    family: str, head: str, recompute: bool
) -> None:
    model = tiny(family, head)
    if recompute:
        model.gradient_checkpointing_enable()
    together = gradients(model, head)
    parameters = dict(model.named_parameters())
    used = {name for name, gradient in together.items() if np.abs(gradient).max() > 1e-9}
    assert len(used) > 0.7 * len(parameters) and together.keys() >= parameters.keys() - {"bert.pooler.dense.bias"}
    for name, parameter in parameters.items():
        model.requires_grad_(False)
        parameter.requires_grad = True
        alone = gradients(model, head)
        assert alone.keys() == {name}
        # A frozen head is differentiated block by block, and so in another order.
        np.testing.assert_allclose(alone[name], together[name], rtol=1e-10, atol=1e-13, err_msg=name)


@pytest.mark.parametrize(("family", "head"), CASES)
def test_an_upstream_gradient_scales_every_gradient(family: str, head: str) -> None:
    model = tiny(family, head)
    whole, part = gradients(model, head), gradients(model, head, -0.25)
    assert whole.keys() == part.keys()
    for name, gradient in whole.items():
        np.testing.assert_array_equal(part[name], -0.25 * gradient, err_msg=name)  # by a power of two: exactly
    for parameter in list(model.parameters())[3:]:
        parameter.requires_grad = False  # and a frozen head
    whole, part = gradients(model, head), gradients(model, head, -0.25)
    for name, gradient in whole.items():
        np.testing.assert_array_equal(part[name], -0.25 * gradient, err_msg=name)


@pytest.mark.parametrize(("family", "head"), CASES)
def test_an_adapter_drops_out_whichever_layer_it_is_on(family: str, head: str) -> None:
    """Nothing else drops out here, so only a Generator that reaches this very layer changes the loss."""
    base = tiny(family, head)
    targets = [path for path, module in base.named_modules() if isinstance(module, Linear)]  # the vocabulary's too
    model = get_peft_model(base, LoraConfig(r=2, target_modules=targets, lora_dropout=0.5)).train()
    rng = np.random.default_rng(1)
    named = model.adapter_parameters("default")
    for name in [name for name in named if "lora_B" in name]:
        named[name].data = rng.standard_normal(named[name].shape)  # of this one alone it is not zero
        losses = []
        for seed in range(4):
            output, backward = model(**batch(head), rng=np.random.default_rng(seed))
            losses.append(float(output.loss))
        assert len(set(losses)) > 1, name
        backward()  # of what was drawn last
        A, B = named[name.replace("lora_B", "lora_A")], named[name]
        np.testing.assert_allclose(B.data.T @ B.grad, A.grad @ A.data.T, rtol=1e-9, atol=1e-12)
        model.zero_grad()
        named[name].data = np.zeros(named[name].shape)


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("problem_type", ["regression", "multi_label_classification", "single_label_classification"])
def test_a_loss_says_over_how_many_numbers_it_is_a_mean(problem_type: str, columns: int) -> None:
    """So that losses of batches can be put together, each with its weight."""
    if columns == 1 and problem_type.startswith("single"):
        return
    model = tiny("Bert", "SequenceClassification", num_labels=columns, problem_type=problem_type)
    rng = np.random.default_rng(2)
    labels: Array = rng.random((3, columns))
    if problem_type.startswith("single"):
        labels = np.array([2, -100, 1])
    outputs = [model(IDS[rows], MASK[rows], labels=labels[rows])[0] for rows in (slice(0, 3), slice(0, 1), slice(1, 3))]
    whole, *parts = outputs
    assert whole.num_items == (2 if problem_type.startswith("single") else 3 * columns)
    assert whole.num_items == sum(part.num_items for part in parts)
    total = sum(part.loss * part.num_items for part in parts)
    np.testing.assert_allclose(whole.loss * whole.num_items, total, rtol=1e-12)
