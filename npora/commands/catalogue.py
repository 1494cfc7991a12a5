"""npora's layers, functions and models at drawn sizes, for experiments: each name gives (layer, inputs, keywords)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from npora.lora import LoRAAttention, LoraConfig, get_peft_model
from npora.lora.adapter import Adapter
from npora.lora.inject import adapted_layer
from npora.lora.methods import METHODS
from npora.models import (
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    DistilBertForSequenceClassification,
    Gemma3ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MistralForCausalLM,
    Qwen2ForCausalLM,
    Qwen3ForCausalLM,
    RobertaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)
from npora.models.pretrained import PretrainedModel
from npora.nn import Embedding, LayerNorm, Linear, Module, MultiHeadAttention, Packing
from npora.nn import functional as F
from npora.nn.module import Array

Drawn = tuple[Any, tuple[Any, ...], dict[str, Any]]
Rng = np.random.Generator


def _sizes(rng: Rng, count: int) -> list[int]:
    """Pairwise distinct, so that a missing transpose cannot hide."""
    return [int(size) for size in rng.permutation(np.arange(2, 9))[:count]]


def _normal(rng: Rng, *shape: int) -> Array:
    return rng.standard_normal(shape)


def _moved(layer: Module, rng: Rng, scale: float) -> Module:
    """Parameters of size `scale` around where they start, none of them special."""
    for parameter in layer.parameters():
        base = parameter.data if scale >= 1 else parameter.data * scale
        parameter.data = (base + 0.5 * scale * rng.standard_normal(parameter.shape)).astype(parameter.dtype)
    return layer


def _packing(rng: Rng) -> Packing:
    return Packing.of_lengths([int(n) for n in rng.integers(1, 5, size=3)])


def _element_wise(function: Any) -> Callable[[Rng, float], Drawn]:
    def draw(rng: Rng, scale: float) -> Drawn:
        return function, (scale * _normal(rng, *_sizes(rng, 3)),), {}

    return draw


def _masked_softmax(rng: Rng, scale: float) -> Drawn:
    n, s = _sizes(rng, 2)
    mask = rng.random((n, s)) < 0.7
    mask[:, 0] = True
    return F.softmax, (scale * _normal(rng, n, s),), {"mask": mask}


def _normalize(rng: Rng, scale: float) -> Drawn:
    return F.normalize, (scale * _normal(rng, *_sizes(rng, 3)),), {"eps": 1e-5}


def _dropout(rng: Rng, scale: float) -> Drawn:
    return (
        F.dropout,
        (scale * _normal(rng, *_sizes(rng, 2)),),
        {"p": 0.3, "rng": np.random.default_rng(6)},
    )


def _cross_entropy(rng: Rng, scale: float) -> Drawn:
    n, v = _sizes(rng, 2)
    targets = rng.integers(0, v, n)
    targets[1:][rng.random(n - 1) < 0.3] = -100
    return F.cross_entropy, (scale * _normal(rng, n, v),), {"targets": targets, "label_smoothing": 0.1}


def _mse(rng: Rng, scale: float) -> Drawn:
    shape = _sizes(rng, 2)
    return F.mse_loss, (scale * _normal(rng, *shape),), {"target": _normal(rng, *shape)}


def _attention(rng: Rng, scale: float) -> Drawn:
    b, h, t, s, d, e = _sizes(rng, 6)
    mask = rng.random((b, 1, t, s)) < 0.8
    mask[..., 0] = True
    q, k, v = scale * _normal(rng, b, h, t, d), _normal(rng, b, h, s, d), _normal(rng, b, h, s, e)
    return F.attention, (q, k, v), {"mask": mask}


def _linear(rng: Rng, scale: float) -> Drawn:
    n, i, o = _sizes(rng, 3)
    return _moved(Linear(i, o, rng=0), rng, scale), (_normal(rng, n, i),), {}


def _embedding(rng: Rng, scale: float) -> Drawn:
    n, v, d = _sizes(rng, 3)
    return _moved(Embedding(v, d, rng=0), rng, scale), (rng.integers(0, v, n),), {}


def _layer_norm(rng: Rng, scale: float) -> Drawn:
    b, t, d = _sizes(rng, 3)
    return _moved(LayerNorm(d + 1), rng, scale), (_normal(rng, b, t, d + 1),), {}


def _self_attention(rng: Rng, scale: float) -> Drawn:
    h, d, _ = _sizes(rng, 3)
    layer = MultiHeadAttention(h * d, h, causal=bool(rng.integers(2)), dropout=0.1, rng=0)
    packing = _packing(rng)
    keywords = {"packing": packing, "rng": np.random.default_rng(1)}
    return _moved(layer, rng, scale), (_normal(rng, packing.rows, h * d),), keywords


def _cross_attention(rng: Rng, scale: float) -> Drawn:
    b, t, s, k = _sizes(rng, 4)
    key_mask = np.arange(s) < rng.integers(1, s + 1, b)[:, None]
    key_mask[0, -1] = False
    layer = _moved(MultiHeadAttention(6, 2, kdim=k, rng=0), rng, scale)
    return layer, (_normal(rng, b, t, 6), _normal(rng, b, s, k)), {"key_mask": key_mask}


def _adapted(method: type[Adapter], fields: Mapping[str, Any]) -> Callable[[Rng, float], Drawn]:
    """A layer with an adapter of this config, of sizes that are none of the config's own."""

    def draw(rng: Rng, scale: float) -> Drawn:
        n, i, o = [size for size in _sizes(rng, 7) if size not in fields.values()][:3]
        config = method.config_class(**fields)
        layer = adapted_layer(Linear(i, o, rng=0), config, np.random.default_rng(1), "dense")
        if "dropout_p" in vars(layer.adapters["default"]):
            layer.adapters["default"].dropout_p = float(rng.choice([0.0, 0.2]))
        return _moved(layer, rng, scale), (_normal(rng, n, i),), {"rng": np.random.default_rng(2)}

    return draw


def _lora_attention(rng: Rng, scale: float) -> Drawn:
    layer = LoRAAttention(6, 2, r=3, lora_alpha=5, lora_dropout=0.1, rng=0)
    packing = _packing(rng)
    return (
        _moved(layer, rng, scale),
        (_normal(rng, packing.rows, 6),),
        {"packing": packing, "rng": np.random.default_rng(3)},
    )


_BERT = {
    "vocab_size": 11, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 7,
    "max_position_embeddings": 7, "num_labels": 3,
}  # fmt: skip
_DISTILBERT = {
    "vocab_size": 11, "dim": 6, "n_layers": 2, "n_heads": 2, "hidden_dim": 7, "max_position_embeddings": 5,
    "num_labels": 3,
}  # fmt: skip


def _encoder(
    made: type[PretrainedModel], sizes: dict[str, Any], classes: int = 0, task: str | None = None
) -> Callable[[Rng, float], Drawn]:
    """Three sentences with a label each; with one of `classes` at some of their tokens where that is given."""

    def draw(rng: Rng, scale: float) -> Drawn:
        model: Module = made(made.config_class(**sizes), rng=0)  # type: ignore[call-arg]
        if task is not None:
            model = get_peft_model(model, LoraConfig(r=2, lora_alpha=3, lora_dropout=0.1, task_type=task))
        lengths = rng.integers(1, 6, size=3)
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids, labels = rng.integers(2, 11, mask.shape), rng.integers(0, 3, 3)
        if classes:
            labels = np.where(rng.random(mask.shape) < 0.5, rng.integers(0, classes, mask.shape), -100)
            labels[:, 0] = labels[:, 0].clip(0)
            labels = np.where(mask, labels, -100)
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return _moved(model, rng, scale), (), {**batch, "rng": np.random.default_rng(4)}

    return draw


def _swiglu(rng: Rng, scale: float) -> Drawn:
    shape = _sizes(rng, 3)
    return F.swiglu, (scale * _normal(rng, *shape), scale * _normal(rng, *shape)), {}


def _gpt2(rng: Rng, scale: float, adapted: bool = False) -> Drawn:
    model: Module = GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=6, n_embd=6, n_layer=2, n_head=2), rng=0)
    return _causal(model, rng, scale, adapted)


_LLAMA: dict[str, Any] = {
    "vocab_size": 11, "hidden_size": 6, "intermediate_size": 7, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
_GEMMA: dict[str, Any] = {"query_pre_attn_scalar": 3, "sliding_window": 2, "sliding_window_pattern": 2}
_QWEN2: dict[str, Any] = {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 2}


def _llama(made: type[PretrainedModel], adapted: bool = False, **fields: Any) -> Callable[[Rng, float], Drawn]:
    """A model of Llama's kind."""

    def draw(rng: Rng, scale: float) -> Drawn:
        sizes = {"head_dim": 2 * int(rng.integers(1, 4)), "tie_word_embeddings": bool(rng.integers(2))}
        model = made(made.config_class(**{**_LLAMA, **sizes, **fields}), rng=0)  # type: ignore[call-arg]
        return _causal(model, rng, scale, adapted)

    return draw


def _causal(model: Module, rng: Rng, scale: float, adapted: bool) -> Drawn:
    """Three sequences to be continued."""
    if adapted:
        lora = LoraConfig(r=3, lora_alpha=5, lora_dropout=0.1, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
    lengths = rng.integers(3, 6, size=3)  # a query that is learnt from must have two keys to weigh
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = rng.integers(1, 11, mask.shape)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": np.where(mask, ids, -100)}
    return _moved(model, rng, scale), (), {**batch, "rng": np.random.default_rng(5)}


def _t5(rng: Rng, scale: float, adapted: bool = False) -> Drawn:
    gated = bool(rng.integers(2))
    config = T5Config(
        vocab_size=11, d_model=6, d_kv=5, num_heads=2, d_ff=7, num_layers=2, relative_attention_num_buckets=6,
        relative_attention_max_distance=4, feed_forward_proj="gated-gelu" if gated else "gelu",
        tie_word_embeddings=not gated, layer_norm_epsilon=0.01,
    )  # fmt: skip
    model: Module = T5ForConditionalGeneration(config, rng=0)
    if adapted:
        model = get_peft_model(model, LoraConfig(r=2, lora_alpha=3, lora_dropout=0.1, task_type="SEQ_2_SEQ_LM"))
    mask, written = (np.arange(6) < rng.integers(1, 7, size=(3, 1)) for _ in range(2))
    labels = np.where(written, rng.integers(1, 11, (3, 6)), -100)
    batch = {"input_ids": rng.integers(1, 11, (3, 6)), "attention_mask": mask, "labels": labels}
    return _moved(model, rng, scale), (), {**batch, "rng": np.random.default_rng(5)}


CATALOGUE: dict[str, Callable[[Rng, float], Drawn]] = {
    "relu": _element_wise(F.relu),
    "tanh": _element_wise(F.tanh),
    "silu": _element_wise(F.silu),
    "gelu": _element_wise(F.gelu),
    "gelu_tanh": _element_wise(F.gelu_tanh),
    "softmax": _masked_softmax,
    "log_softmax": _element_wise(F.log_softmax),
    "normalize": _normalize,
    "dropout": _dropout,
    "cross_entropy": _cross_entropy,
    "mse_loss": _mse,
    "scaled_attention": _attention,
    "linear": _linear,
    "embedding": _embedding,
    "layer_norm": _layer_norm,
    "attention": _self_attention,
    "cross_attention": _cross_attention,
    **{name: _adapted(method, fields) for method in METHODS for name, fields in method.samples.items()},
    "lora_attention": _lora_attention,
    "swiglu": _swiglu,
    "bert": _encoder(BertForSequenceClassification, _BERT),
    "lora_bert": _encoder(BertForSequenceClassification, _BERT, task="SEQ_CLS"),
    "bert_tokens": _encoder(BertForTokenClassification, _BERT, classes=3),
    "bert_masked_lm": _encoder(BertForMaskedLM, _BERT, classes=11),
    "roberta": _encoder(RobertaForSequenceClassification, _BERT),
    "lora_roberta": _encoder(RobertaForSequenceClassification, _BERT, task="SEQ_CLS"),
    "distilbert": _encoder(DistilBertForSequenceClassification, _DISTILBERT),
    "lora_distilbert": _encoder(DistilBertForSequenceClassification, _DISTILBERT, task="SEQ_CLS"),
    "gpt2": _gpt2,
    "lora_gpt2": lambda rng, scale: _gpt2(rng, scale, adapted=True),
    "llama": _llama(LlamaForCausalLM),
    "lora_llama": _llama(LlamaForCausalLM, adapted=True),
    "mistral": _llama(MistralForCausalLM, sliding_window=2),
    "lora_mistral": _llama(MistralForCausalLM, adapted=True, sliding_window=2),
    "qwen2": _llama(Qwen2ForCausalLM, **_QWEN2),
    "lora_qwen2": _llama(Qwen2ForCausalLM, adapted=True, **_QWEN2),
    "qwen3": _llama(Qwen3ForCausalLM),
    "lora_qwen3": _llama(Qwen3ForCausalLM, adapted=True),
    "gemma3": _llama(Gemma3ForCausalLM, **_GEMMA),
    "lora_gemma3": _llama(Gemma3ForCausalLM, adapted=True, **_GEMMA),
    "t5": _t5,
    "lora_t5": lambda rng, scale: _t5(rng, scale, adapted=True),
}


def draw(name: str, seed: int = 0, scale: float = 1.0) -> Drawn:
    """The layer `name` with inputs and parameters of size `scale`, shapes and values by `seed`.

    Raises
    ------
    ValueError: there is no such name; lists those that there are.
    """
    if name not in CATALOGUE:
        raise ValueError(f"there is no layer {name!r}; there are {', '.join(CATALOGUE)}")
    return CATALOGUE[name](np.random.default_rng([seed, *name.encode()]), scale)
