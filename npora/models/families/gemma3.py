"""Gemma 3's text models (Gemma Team, 2025): windows and whole views in turn, a norm before and behind each sublayer.

From Llama it differs in what is written here: each layer's rule and turn, norms of 1 + w, embeddings times √m, GELU in
the gate, the scale of the scores, and as in Qwen3 a norm of each head's query and key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt

from npora.models.body import Back
from npora.models.families.llama import LlamaDecoderLayer, LlamaLikeConfig, LlamaModel, Turn
from npora.models.families.qwen3 import Qwen3Attention
from npora.models.pretrained import Factory
from npora.models.rope import unscaled
from npora.models.tasks import ForCausalLM, ScoredSequences
from npora.models.windows import FULL, SLIDING, LayerTypesConfig, by_kinds
from npora.nn import CentredRMSNorm
from npora.nn.functional import frequencies, rotation
from npora.nn.module import Array
from npora.nn.residual import Layer, chain


@dataclass(kw_only=True)
class Gemma3TextConfig(LayerTypesConfig, LlamaLikeConfig):
    """The `config.json` of a Gemma 3 without eyes; the defaults are transformers'.

    rope_theta, rope_scaling : of the layers that see all; `rope_parameters` may say them, and of the others
        rope_local_base_freq, by kinds of layers
    sliding_window_pattern : each so manieth layer sees all, where `layer_types` does not say
    query_pre_attn_scalar : scores are divided by its root
    """

    model_type = "gemma3_text"
    activations = ("hidden_activation",)
    positive = ("query_pre_attn_scalar", "rope_local_base_freq")
    sizes = (*LlamaLikeConfig.sizes, "sliding_window_pattern")
    fixed: ClassVar = {
        **LlamaLikeConfig.fixed, "attn_logit_softcapping": None, "final_logit_softcapping": None,
        "use_bidirectional_attention": False,
    }  # fmt: skip

    vocab_size: int = 262208
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 131072
    query_pre_attn_scalar: float = 256
    attention_bias: bool = False
    rope_theta: float = 1e6
    rope_local_base_freq: float = 1e4
    sliding_window: int | None = 4096
    sliding_window_pattern: int = 6
    tie_word_embeddings: bool = True
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 1

    @property
    def hidden_act(self) -> str:
        return self.hidden_activation

    def slides(self, index: int) -> bool:
        return (index + 1) % self.sliding_window_pattern != 0

    @property
    def rope_parameters(self) -> dict[str, Any]:
        local = {"rope_type": "default", "rope_theta": self.rope_local_base_freq}
        return {FULL: super().rope_parameters, SLIDING: local}

    @classmethod
    def plain(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """As RotaryConfig.plain. Raises ValueError for another kind of layer, or a window whose rotation is scaled."""
        values = dict(values)
        rope = by_kinds(values.pop("rope_parameters", None))
        if (theta := unscaled(f"rope_parameters of {SLIDING}", rope.get(SLIDING))) is not None:
            values["rope_local_base_freq"] = theta
        return super().plain({"rope_parameters": rope.get(FULL), **values})


class Gemma3Attention(Qwen3Attention):
    norm_class = CentredRMSNorm

    def __init__(self, config: Any, make: Factory, index: int) -> None:
        super().__init__(config, make, index)
        self.scale = 1 / math.sqrt(config.query_pre_attn_scalar)


class Gemma3DecoderLayer(LlamaDecoderLayer):
    """h = x + norm(attention(norm(x))), y = h + norm(MLP(norm(h))).    x [n,m]  →  y [k,m], of the rows read"""

    attention_class = Gemma3Attention
    norm_class = CentredRMSNorm

    def __init__(self, config: Any, make: Factory, index: int) -> None:
        super().__init__(config, make, index)
        m, eps = config.hidden_size, config.rms_norm_eps
        self.pre_feedforward_layernorm = self.norm_class(m, eps, dtype=make.dtype)
        self.post_feedforward_layernorm = self.norm_class(m, eps, dtype=make.dtype)

    def sublayers(self, attend: Layer, feed_forward: Layer) -> tuple[Layer, Layer]:
        attention = chain(self.input_layernorm, attend, self.post_attention_layernorm)
        return attention, chain(self.pre_feedforward_layernorm, feed_forward, self.post_feedforward_layernorm)


class Gemma3TextModel(LlamaModel):
    config_class = Gemma3TextConfig
    layer_class: ClassVar = Gemma3DecoderLayer

    def embed(self, ids: Array) -> tuple[Array, Back]:
        """√m E[ids]"""
        x, back_embedding = super().embed(ids)
        scale = math.sqrt(self.config.hidden_size)
        return scale * x, lambda dx: back_embedding(scale * dx)

    def turns(self, positions: Array, dtype: npt.DTypeLike) -> Sequence[Turn]:
        local = frequencies(self.config.head_dim, self.config.rope_local_base_freq)  # [d/2]
        turns = {FULL: rotation(positions, self.frequencies, dtype), SLIDING: rotation(positions, local, dtype)}
        return [turns[kind] for kind in self.config.layer_types]


class Gemma3ForCausalLM(ForCausalLM):
    body_class = Gemma3TextModel


class Gemma3TextForSequenceClassification(ScoredSequences):
    body_class = Gemma3TextModel
