"""Qwen3 (Yang et al., 2025): Qwen2 without biases, each head's query and key normed before they are turned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from npora.models.body import Rng
from npora.models.families.llama import LlamaAttention, LlamaDecoderLayer, LlamaModel, Projections
from npora.models.families.qwen2 import Qwen2Config
from npora.models.pretrained import Factory
from npora.models.question_answering import ForQuestionAnswering
from npora.models.tasks import ForCausalLM, ScoredSequences, ScoredTokens
from npora.nn import Module, RMSNorm
from npora.nn.module import Array, Pullback
from npora.nn.view import View


@dataclass(kw_only=True)
class Qwen3Config(Qwen2Config):
    """A Qwen3's `config.json`; the defaults are transformers'."""

    model_type = "qwen3"

    head_dim: int = 128
    attention_bias: bool = False


class Qwen3Attention(LlamaAttention):
    """Llama's of q′ = RMSNorm(q) and k′ = RMSNorm(k), head by head: scores are bounded by √d γ_q γ_k."""

    norm_class: ClassVar[type[RMSNorm]] = RMSNorm

    def __init__(self, config: Any, make: Factory, index: int) -> None:
        super().__init__(config, make, index)
        self.q_norm: Module = self.norm_class(config.head_dim, config.rms_norm_eps, dtype=make.dtype)
        self.k_norm: Module = self.norm_class(config.head_dim, config.rms_norm_eps, dtype=make.dtype)

    def projections(self, x: Array, view: View, rng: Rng = None) -> Projections:
        (q, k, v), back = super().projections(x, view, rng)
        q, back_q = by_head(self.q_norm, q, self.heads)
        k, back_k = by_head(self.k_norm, k, self.groups)
        return (q, k, v), lambda dq, dk, dv: back(back_q(dq), back_k(dk), dv)


def by_head(norm: Module, x: Array, heads: int) -> tuple[Array, Pullback]:
    """A norm of each head's features alone.    x [n,h·d]  →  y [n,h·d]"""
    split, whole = (len(x), heads, x.shape[1] // heads), x.shape
    y, back_norm = norm(x.reshape(split))  # [n,h,d]
    return y.reshape(whole), lambda dy: back_norm(dy.reshape(split)).reshape(whole)


class Qwen3DecoderLayer(LlamaDecoderLayer):
    attention_class = Qwen3Attention


class Qwen3Model(LlamaModel):
    config_class = Qwen3Config
    layer_class: ClassVar = Qwen3DecoderLayer


class Qwen3ForCausalLM(ForCausalLM):
    body_class = Qwen3Model


class Qwen3ForSequenceClassification(ScoredSequences):
    body_class = Qwen3Model


class Qwen3ForTokenClassification(ScoredTokens):
    body_class = Qwen3Model


class Qwen3ForQuestionAnswering(ForQuestionAnswering):
    body_class = Qwen3Model
    base_model_prefix = "transformer"  # the files' name for the body, in this task alone
