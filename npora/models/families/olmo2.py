"""OLMo 2 (OLMo Team, 2024): Llama whose norms stand behind the sublayers, and of queries and keys as wholes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from npora.models.body import Rng
from npora.models.families.llama import (
    LlamaAttention,
    LlamaDecoderLayer,
    LlamaLikeConfig,
    LlamaMLP,
    LlamaModel,
    Projections,
)
from npora.models.pretrained import Factory
from npora.models.tasks import ForCausalLM, ScoredSequences
from npora.nn import Module, RMSNorm
from npora.nn.module import Array
from npora.nn.residual import Layer, chain
from npora.nn.view import View


@dataclass(kw_only=True)
class Olmo2Config(LlamaLikeConfig):
    """An OLMo 2's `config.json`; the defaults are transformers'."""

    model_type = "olmo2"

    vocab_size: int = 50304
    hidden_act: str = "silu"
    rms_norm_eps: float = 1e-5
    attention_bias: bool = False
    pad_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 50279


class Olmo2Attention(LlamaAttention):
    """Llama's of q′ = RMSNorm(q) and k′ = RMSNorm(k), over all heads at once, before they are turned."""

    def __init__(self, config: Any, make: Factory, index: int) -> None:
        super().__init__(config, make, index)
        d, eps = config.head_dim, config.rms_norm_eps
        self.q_norm: Module = RMSNorm(self.heads * d, eps, dtype=make.dtype)
        self.k_norm: Module = RMSNorm(self.groups * d, eps, dtype=make.dtype)

    def projections(self, x: Array, view: View, rng: Rng = None) -> Projections:
        (q, k, v), back = super().projections(x, view, rng)
        q, back_q = self.q_norm(q)  # [k,h·d]
        k, back_k = self.k_norm(k)  # [n,g·d]
        return (q, k, v), lambda dq, dk, dv: back(back_q(dq), back_k(dk), dv)


class Olmo2DecoderLayer(LlamaDecoderLayer):
    """h = x + RMSNorm(attention(x)), y = h + RMSNorm(MLP(h)).    x [n,m]  →  y [k,m], of the rows that are read"""

    def __init__(self, config: Any, make: Factory, index: int) -> None:
        m, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = Olmo2Attention(config, make, index)
        self.mlp = LlamaMLP(config, make)
        self.post_attention_layernorm = RMSNorm(m, eps, dtype=make.dtype)
        self.post_feedforward_layernorm = RMSNorm(m, eps, dtype=make.dtype)

    def sublayers(self, attend: Layer, feed_forward: Layer) -> tuple[Layer, Layer]:
        return chain(attend, self.post_attention_layernorm), chain(feed_forward, self.post_feedforward_layernorm)


class Olmo2Model(LlamaModel):
    config_class = Olmo2Config
    layer_class: ClassVar = Olmo2DecoderLayer


class Olmo2ForCausalLM(ForCausalLM):
    body_class = Olmo2Model


class Olmo2ForSequenceClassification(ScoredSequences):
    body_class = Olmo2Model
