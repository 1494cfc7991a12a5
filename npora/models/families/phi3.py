"""Phi-3 and Phi-4-mini (Abdin et al., 2024): Mistral with q, k and v as one product, and gate and up as another.

Where asked, only the first features of each head are turned (Phi-4-mini), and their frequencies are LongRoPE's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.files.refusal import shortened
from npora.models.body import Rng
from npora.models.families.llama import LlamaAttention, LlamaDecoderLayer, LlamaModel, Projections, Turn
from npora.models.families.mistral import MistralConfig
from npora.models.pretrained import Factory
from npora.models.rope import is_at_least
from npora.models.tasks import ForCausalLM, ScoredSequences, ScoredTokens
from npora.nn import Dropout, LayerCache, Module
from npora.nn.functional import ACTIVATIONS, frequencies, gated, rotation
from npora.nn.module import Array, Pullback
from npora.nn.residual import chain
from npora.nn.view import View


@dataclass(kw_only=True)
class Phi3Config(MistralConfig):
    """A Phi-3's or Phi-4-mini's `config.json`; the defaults are Phi-3-mini-4k's.

    partial_rotary_factor : which share of a head's features is turned, from the first on
    rope_scaling : None, or "longrope" (Ding et al., 2024): each pair turns its short_factor times more slowly, and
        queries and keys are √(1 + ln f/ln L) times as large, with f = `factor` (max_position_embeddings/L unless given)
        and L = `original_max_position_embeddings`. For texts of more than L tokens other factors were learnt, the
        long_factor. Where one text of a batch is so long they would count for all of it: npora refuses such texts
    resid_pdrop : dropout behind each sublayer
    """

    model_type = "phi3"
    fixed: ClassVar = {
        "is_causal": True, "layer_types": None, "attention_bias": False, "mlp_bias": False, "lm_head_bias": False,
    }  # fmt: skip
    sizes = (*MistralConfig.sizes, "original_max_position_embeddings")

    vocab_size: int = 32064
    hidden_size: int = 3072
    intermediate_size: int = 8192
    num_key_value_heads: int = None  # type: ignore[assignment]  # a whole number once constructed
    max_position_embeddings: int = 4096
    original_max_position_embeddings: int = 4096
    partial_rotary_factor: float = 1.0
    resid_pdrop: float = 0.0
    rms_norm_eps: float = 1e-5
    sliding_window: int | None = None
    eos_token_id: int | list[int] | None = 32000
    pad_token_id: int | None = 32000

    @property
    def is_long(self) -> bool:
        return (self.rope_scaling or {}).get("rope_type") == "longrope"

    @property
    def named_length(self) -> int | None:
        return self.original_max_position_embeddings if self.is_long else super().named_length

    @property
    def most_tokens(self) -> int | None:
        return self.named_length if self.is_long else None

    @property
    def turned_features(self) -> int:
        return int(self.head_dim * self.partial_rotary_factor)

    @property
    def turn_scale(self) -> float:
        """How much larger queries and keys are for their turn: the scores see its square."""
        scaling, learnt = self.rope_scaling or {}, self.original_max_position_embeddings
        if not self.is_long:
            return 1.0
        if (given := scaling.get("attention_factor")) is not None:
            return float(given)
        factor = scaling.get("factor") or self.max_position_embeddings / learnt
        return math.sqrt(1 + math.log(factor) / math.log(learnt)) if factor > 1 else 1.0

    @property
    def rope_parameters(self) -> dict[str, Any]:
        length = {"original_max_position_embeddings": self.original_max_position_embeddings} if self.is_long else {}
        return {**super().rope_parameters, "partial_rotary_factor": self.partial_rotary_factor, **length}

    def frequencies(self) -> Array:
        omega = frequencies(self.turned_features, self.rope_theta)  # of the pairs that are turned
        return omega / np.asarray(self.rope_scaling["short_factor"]) if self.rope_scaling and self.is_long else omega

    def _check_rotation(self) -> None:
        if not 0 < self.partial_rotary_factor <= 1 or self.turned_features < 2 or self.turned_features % 2:
            raise ValueError(
                f"config: partial_rotary_factor must be a share of head_dim {self.head_dim} that is a positive even "
                f"number of features; got {self.partial_rotary_factor!r}"
            )
        super()._check_rotation()

    def check_scaling(self, scaling: dict[str, Any]) -> None:
        kind, pairs = scaling["rope_type"], self.turned_features // 2
        if kind not in ("default", "longrope"):
            raise ValueError(
                f"config: rope_type {shortened(kind)} is not supported in {self.model_type}; only 'default' and "
                "'longrope' are"
            )
        for name in ("short_factor", "long_factor") if kind == "longrope" else ():
            given = scaling.get(name)
            if not isinstance(given, list) or len(given) != pairs or not all(is_at_least(s, 1e-9) for s in given):
                raise ValueError(f"config: {name} must be a list of {pairs} positive numbers; got {shortened(given)}")
        for name, least in ("factor", 1), ("attention_factor", 0):
            if scaling.get(name) is not None and not is_at_least(scaling[name], least):
                raise ValueError(f"config: {name} must be a number of at least {least}; got {shortened(scaling[name])}")

    @classmethod
    def plain(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """As RotaryConfig.plain; what rope_parameters say beside the scaling stands in fields of its own, and "su" and
        "yarn", the first names of longrope, are that.

        Raises
        ------
        ValueError: an original_max_position_embeddings that is another inside than outside.
        """
        values = super().plain(values)
        scaling = dict(values.get("rope_scaling") or {})
        learnt = scaling.pop("original_max_position_embeddings", None)
        usual = values.get("original_max_position_embeddings", cls.original_max_position_embeddings)
        if learnt not in (None, usual):
            raise ValueError(f"config: original_max_position_embeddings is {usual}, and {learnt} in rope_parameters")
        if (share := scaling.pop("partial_rotary_factor", None)) is not None:
            values["partial_rotary_factor"] = share
        if scaling.get("rope_type") in ("su", "yarn"):
            scaling["rope_type"] = "longrope"
        if "rope_scaling" in values:
            values["rope_scaling"] = None if scaling in ({}, {"rope_type": "default"}) else scaling
        return values

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        if self.partial_rotary_factor == 1:
            values.pop("partial_rotary_factor", None)  # rope_parameters say it; older versions read it here
        return values


class Phi3Attention(LlamaAttention):
    """Llama's with one matrix for q, k and v. It is multiplied for all rows, since an adapter may sit on the whole of
    it, and q is then taken of those that are read. Dropout stands behind it."""

    def __init__(self, config: Any, make: Factory, index: int) -> None:
        m, d = config.hidden_size, config.head_dim
        self.heads, self.groups, self.rule = config.num_attention_heads, config.num_key_value_heads, config.rule(index)
        self.qkv_proj: Module = make.linear(m, (self.heads + 2 * self.groups) * d, bias=False)
        self.o_proj: Module = make.linear(self.heads * d, m, bias=False)
        self.parts = [self.heads * d, (self.heads + self.groups) * d]  # where k and v begin
        self.dropout, self.resid_dropout = config.attention_dropout, Dropout(config.resid_pdrop)

    def projections(self, x: Array, view: View, rng: Rng = None) -> Projections:
        qkv, back_qkv = self.qkv_proj(x, rng)
        q, k, v = np.split(qkv, self.parts, axis=1)  # [n,h·d], [n,g·d], [n,g·d]
        q, back_pick = view.pick(q)  # [k,h·d]
        return (q, k, v), lambda dq, dk, dv: back_qkv(np.concatenate([back_pick(dq), dk, dv], axis=1))

    def forward(
        self, x: Array, turn: Turn | None, view: View, rng: Rng = None, past: LayerCache | None = None
    ) -> tuple[Array, Pullback]:
        attend = partial(super().forward, turn=turn, view=view, rng=rng, past=past)
        return chain(attend, partial(self.resid_dropout, rng=rng))(x)


class Phi3MLP(Module):
    """y = dropout(W_down (a(g) ⊙ u)), with g above u in W x.    x [n,m]  →  y [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        m, f = config.hidden_size, config.intermediate_size
        self.gate_up_proj: Module = make.linear(m, 2 * f, bias=False)
        self.down_proj: Module = make.linear(f, m, bias=False)
        self.activation, self.dropout = ACTIVATIONS[config.hidden_act], Dropout(config.resid_pdrop)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        gate_up, back_gate_up = self.gate_up_proj(x, rng)
        gate, up = np.split(gate_up, 2, axis=1)  # [n,f], [n,f]
        f, back_gated = gated(gate, up, self.activation)
        y, back_down = self.down_proj(f, rng)  # [n,f] → [n,m]
        y, back_dropout = self.dropout(y, rng)
        return y, lambda dy: back_gate_up(np.concatenate(back_gated(back_down(back_dropout(dy))), axis=1))


class Phi3DecoderLayer(LlamaDecoderLayer):
    attention_class = Phi3Attention
    mlp_class = Phi3MLP


class Phi3Model(LlamaModel):
    config_class = Phi3Config
    default_target_modules = ("qkv_proj",)
    layer_class: ClassVar = Phi3DecoderLayer

    def turns(self, positions: Array, dtype: npt.DTypeLike) -> Sequence[Turn | None]:
        most, scale = self.config.most_tokens, self.config.turn_scale
        if most is not None and positions.max(initial=0) >= most:
            raise ValueError(
                f"a text of {positions.max() + 1} tokens is longer than the {most} that this model takes here: npora "
                "has no long_factor of longrope; cut the text, or generate fewer tokens"
            )
        cos, sin = rotation(positions, self.frequencies, dtype)
        return [(scale * cos, scale * sin)] * len(self.layers)


class Phi3ForCausalLM(ForCausalLM):
    body_class = Phi3Model


class Phi3ForSequenceClassification(ScoredSequences):
    body_class = Phi3Model


class Phi3ForTokenClassification(ScoredTokens):
    body_class = Phi3Model
