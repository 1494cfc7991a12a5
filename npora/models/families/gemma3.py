"""Gemma 3's text models (Gemma Team, 2025): windows and whole views in turn, a norm before and behind each sublayer.

From Llama it differs in what is written here: each layer's rule and turn, norms of 1 + w, embeddings times √m, GELU in
the gate, the scale of the scores, and as in Qwen3 a norm of each head's query and key.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy.typing as npt

from npora.files.refusal import shortened
from npora.models.body import Back, Rng
from npora.models.families.llama import LlamaDecoderLayer, LlamaLikeConfig, LlamaModel, Turn
from npora.models.families.qwen3 import Qwen3Attention
from npora.models.pretrained import Factory
from npora.models.rope import unfolded
from npora.models.tasks import ForCausalLM, ScoredSequences
from npora.models.windows import FULL, SLIDING, LayerTypesConfig
from npora.nn import CentredRMSNorm, LayerCache
from npora.nn.functional import frequencies, rotation
from npora.nn.init import Source
from npora.nn.module import Array, Pullback
from npora.nn.residual import chain, residual
from npora.nn.view import View


@dataclass(kw_only=True)
class Gemma3TextConfig(LayerTypesConfig, LlamaLikeConfig):
    """The `config.json` of a Gemma 3 without eyes; the defaults are transformers'.

    rope_theta, rope_scaling : of the layers that see all; `rope_parameters` may say them, and of the others
        rope_local_base_freq, by kinds of layers
    sliding_window_pattern : each so manieth layer sees all, where `layer_types` does not say
    query_pre_attn_scalar : scores are divided by its root
    """

    model_type = "gemma3_text"
    activation_field = "hidden_activation"
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

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("query_pre_attn_scalar", "rope_local_base_freq"):
            if getattr(self, name) <= 0:
                raise ValueError(f"config: {name} must be a positive number; got {getattr(self, name)!r}")

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
        """As RotaryConfig.plain, of rope_parameters by kinds of layers.

        Raises
        ------
        ValueError: another kind, or a window whose rotation is scaled.
        """
        values = dict(values)
        rope = values.pop("rope_parameters", None) or {}
        if not isinstance(rope, Mapping):
            raise ValueError(f"config: rope_parameters must be by kinds of layers; got {shortened(rope)}")
        if others := rope.keys() - {FULL, SLIDING}:
            raise ValueError(
                f"config: rope_parameters must be of {FULL} and {SLIDING}; got {', '.join(sorted(others))}"
            )
        theta, scaling = unfolded("rope_parameters", rope.get(SLIDING) or {})
        if scaling is not None:
            raise ValueError(
                f"config: rope_type {scaling['rope_type']!r} is not supported in {SLIDING}; only 'default' is"
            )
        values |= {} if theta is None else {"rope_local_base_freq": theta}
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

    def forward(
        self, x: Array, turn: Turn | None, view: View, rng: Rng = None, past: LayerCache | None = None
    ) -> tuple[Array, Pullback]:
        attend = partial(self.self_attn, turn=turn, view=view, rng=rng, past=past)
        feed_forward = partial(self.mlp, rng=rng)
        attention = chain(self.input_layernorm, attend, self.post_attention_layernorm)
        mlp = chain(self.pre_feedforward_layernorm, feed_forward, self.post_feedforward_layernorm)
        h, back_attention = residual(attention, x, view)
        y, back_mlp = residual(mlp, h)
        return y, lambda dy: back_attention(back_mlp(dy))


class Gemma3TextModel(LlamaModel):
    config_class = Gemma3TextConfig
    layer_class: ClassVar = Gemma3DecoderLayer

    def __init__(self, config: Any, *, rng: Source | int | None = None, dtype: npt.DTypeLike = "float32") -> None:
        super().__init__(config, rng=rng, dtype=dtype)
        self.local_frequencies = frequencies(config.head_dim, config.rope_local_base_freq)  # [d/2]

    def embed(self, ids: Array) -> tuple[Array, Back]:
        """√m E[ids]"""
        x, back_embedding = super().embed(ids)
        scale = math.sqrt(self.config.hidden_size)
        return scale * x, lambda dx: back_embedding(scale * dx)

    def turns(self, positions: Array, dtype: npt.DTypeLike) -> Sequence[Turn]:
        turns = {
            FULL: rotation(positions, self.frequencies, dtype),
            SLIDING: rotation(positions, self.local_frequencies, dtype),
        }
        return [turns[kind] for kind in self.config.layer_types]


class Gemma3ForCausalLM(ForCausalLM):
    body_class = Gemma3TextModel


class Gemma3TextForSequenceClassification(ScoredSequences):
    body_class = Gemma3TextModel


TASKS = {"CausalLM": Gemma3ForCausalLM, "SequenceClassification": Gemma3TextForSequenceClassification}
