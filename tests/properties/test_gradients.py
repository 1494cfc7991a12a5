"""Every backward pass against complex steps, over drawn shapes, strides, lengths and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from npora import LoraConfig, get_peft_model, gradcheck
from npora.lora import LoRAAttention, LoRALinear
from npora.nn import Embedding, LayerNorm, Linear, Module, MultiHeadAttention, Packing
from npora.nn import functional as F
from npora.nn.module import Array
from tests.properties.strategies import normal, seeds, sizes, strided
from tests.tiny import tiny_bert

leading = st.lists(sizes, min_size=1, max_size=2)


def moved(layer: Module, seed: int) -> Module:
    """Parameters away from the zeros and ones that they start with."""
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = (parameter.data + 0.5 * normal(seed + number, *parameter.shape)).astype(parameter.dtype)
    return layer


def check(layer: Any, *inputs: Any, **keywords: Any) -> None:
    """No row FAILs, nor has a kink. A row may be VACUOUS or UNRESOLVED: a draw can make a gradient zero (dropout takes
    every input, a lone key makes its score idle), or tiny. That none is so by mistake is what the table in contracts.py
    holds, on fixed inputs."""
    report = gradcheck(layer, *inputs, **keywords)
    assert report.rows and report.verdict not in ("FAIL", "DETACHED", "KINK"), str(report)


@given(st.data(), leading, sizes, sizes, st.booleans(), seeds)
def test_linear(data: st.DataObject, lead: list[int], i: int, o: int, bias: bool, seed: int) -> None:
    check(moved(Linear(i, o, bias), seed), data.draw(strided(*lead, i)))


@given(st.data(), leading, sizes, sizes, sizes, st.sampled_from([0.0, 0.4]), st.booleans(), seeds)
def test_lora_linear(
    data: st.DataObject, lead: list[int], i: int, o: int, r: int, p: float, rslora: bool, seed: int
) -> None:
    layer = LoRALinear(Linear(i, o), r, 3, p, use_rslora=rslora)
    check(moved(layer, seed), data.draw(strided(*lead, i)), rng=np.random.default_rng(seed))


@given(st.data(), leading, st.integers(2, 6), seeds)
def test_layer_norm(data: st.DataObject, lead: list[int], d: int, seed: int) -> None:
    check(moved(LayerNorm(d, eps=0.1), seed), data.draw(strided(*lead, d)))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), sizes, seeds)
def test_embedding(ids: list[int], d: int, seed: int) -> None:
    check(moved(Embedding(4, d), seed), np.array(ids))


@given(st.data(), leading, sizes, st.sampled_from([F.gelu, F.gelu_tanh, F.silu, F.tanh, F.relu]))
def test_activations(data: st.DataObject, lead: list[int], d: int, f: Callable[..., Any]) -> None:
    x = 3 * data.draw(strided(*lead, d))
    if f is F.gelu:
        x.flat[0] = 0.5  # an ordinary slope: beside it the digits that 1 + erf loses in the left tail do not count
    if f is F.relu:
        x = np.where(x == 0, 1.0, x)  # there it has no derivative
    check(f, x)


@given(st.data(), leading, st.integers(2, 5), seeds, st.booleans())
def test_softmax(data: st.DataObject, lead: list[int], s: int, seed: int, masked: bool) -> None:
    x = 2 * data.draw(strided(*lead, s))
    mask = np.random.default_rng(seed).random(x.shape) < 0.7 if masked else None
    check(F.softmax, x, mask=mask)
    check(F.log_softmax, x)


@given(st.data(), st.integers(1, 5), st.integers(2, 5), seeds, st.sampled_from([0.0, 0.2]))
def test_cross_entropy(data: st.DataObject, n: int, v: int, seed: int, smoothing: float) -> None:
    targets = np.random.default_rng(seed).integers(0, v, n)
    targets[np.random.default_rng(seed + 1).random(n) < 0.3] = -100
    logits = data.draw(strided(n, v))
    check(F.cross_entropy, logits, targets=targets, label_smoothing=smoothing)


lengths = st.lists(st.integers(0, 4), min_size=1, max_size=3).filter(any)


@given(lengths, st.integers(1, 3), st.integers(1, 3), st.booleans(), st.sampled_from([0.0, 0.3]), seeds)
def test_self_attention_packed(t: list[int], h: int, d: int, causal: bool, p: float, seed: int) -> None:
    layer = moved(MultiHeadAttention(h * d, h, causal=causal, dropout=p), seed)
    packing = Packing.of_lengths(t)
    keywords = {"packing": packing, "rng": np.random.default_rng(seed)}
    check(layer, normal(seed, packing.rows, h * d), **keywords)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), sizes, st.booleans(), seeds)
def test_cross_attention_dense_with_bias_and_padded_keys(
    b: int, t: int, s: int, d: int, causal: bool, seed: int
) -> None:
    layer = moved(MultiHeadAttention(2 * d, 2, kdim=3, causal=causal), seed)
    key_mask = np.arange(s) < np.random.default_rng(seed).integers(1, s + 1, b)[:, None]
    inputs = (normal(seed, b, t, 2 * d), normal(seed, b, s, 3), normal(seed, 2, 1, s))
    check(layer, *inputs, key_mask=key_mask)


@given(lengths, st.sets(st.sampled_from(["q_proj", "k_proj", "v_proj", "out_proj"]), min_size=1), sizes, seeds)
def test_lora_attention(t: list[int], targets: set[str], r: int, seed: int) -> None:
    layer = moved(LoRAAttention(4, 2, r, 3, target_modules=sorted(targets)), seed)
    packing = Packing.of_lengths(t)
    check(layer, normal(seed, packing.rows, 4), packing=packing)


class LossOfParameters(Module):
    """A whole adapted BERT on fixed rows, as a function of its trainable parameters."""

    def __init__(self, model: Module, batch: dict[str, Array]) -> None:
        self.model, self.batch = model, batch

    def forward(self, rng: np.random.Generator) -> tuple[Any, Callable[..., Any]]:
        output, backward = self.model(**self.batch, rng=rng)
        return output.loss, backward


@settings(max_examples=6)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=2), seeds)
def test_a_whole_adapted_bert(t: list[int], seed: int) -> None:
    config = LoraConfig(r=2, lora_alpha=3, lora_dropout=0.2, target_modules=["query", "value"], task_type="SEQ_CLS")
    model = get_peft_model(tiny_bert(), config)
    for number, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
        parameter.data = parameter.data + 0.5 * normal(seed + number, *parameter.shape).astype(np.float32)
    rng = np.random.default_rng(seed)
    mask = np.arange(max(t)) < np.array(t)[:, None]
    batch = {"input_ids": rng.integers(1, 31, mask.shape), "attention_mask": mask, "labels": rng.integers(0, 3, len(t))}
    check(LossOfParameters(model, batch), rng=np.random.default_rng(seed))
