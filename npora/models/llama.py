"""Llama (Touvron et al., 2023), with Hugging Face's parameter names; SmolLM2 and other models of its kind too.

Rows: tokens are `[n,m]` without padding; the packing says which rows form which sequence. Pre-norm: each sublayer is
x + f(RMSNorm(x)). A position is an angle by which queries and keys are turned, so there is no table of positions, and
no longest sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.config import PretrainedConfig
from npora.models.outputs import BaseModelOutput
from npora.models.pretrained import Factory, PretrainedModel
from npora.models.tokens import pack_tokens, packed_positions
from npora.nn import Cache, LayerCache, Module, Packing, RMSNorm, stack
from npora.nn.dropout import active_rng
from npora.nn.functional import causal, packed_attention, rotary, rotation, swiglu
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained

Rng = np.random.Generator | None
TARGETS = ("q_proj", "v_proj")
Turn = tuple[Array, Array]  # cosines and sines of the positions
_ROPE = ("rope_type", "type", "rope_theta")  # what is read of rope_parameters
BUFFERS = (".rotary_emb.inv_freq",)  # the angles; older files hold them


@dataclass(kw_only=True)
class LlamaConfig(PretrainedConfig):
    """A Llama's `config.json`; the defaults are Llama-2-7B's.

    num_key_value_heads : a divisor of num_attention_heads, which it equals unless given
    head_dim : hidden_size / num_attention_heads unless given
    rope_theta : the base of the angles; a file may name it inside `rope_parameters`
    """

    model_type = "llama"
    fixed: ClassVar = {"hidden_act": "silu", "is_causal": True}
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
             "num_key_value_heads")  # fmt: skip

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = None  # type: ignore[assignment]  # a whole number once constructed
    head_dim: int = None  # type: ignore[assignment]
    max_position_embeddings: int = 2048
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2

    def __post_init__(self) -> None:
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        super().__post_init__()
        self._divides("num_key_value_heads", "num_attention_heads")
        if self.head_dim is None:
            self._divides("num_attention_heads", "hidden_size")
            self.head_dim = self.hidden_size // self.num_attention_heads
        if type(self.head_dim) is not int or self.head_dim < 1 or self.head_dim % 2:
            raise ValueError(f"config: head_dim must be a positive even number, to be turned; got {self.head_dim!r}")
        if self.rope_theta <= 0:
            raise ValueError(f"config: rope_theta must be a positive number; got {self.rope_theta!r}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LlamaConfig:
        """As PretrainedConfig.from_dict. Raises ValueError for a rope_type other than "default", or one for each kind
        of layer."""
        config = super().from_dict({**values, "rope_theta": _rope_theta(values, cls.rope_theta)})
        rope = {k: v for k, v in (config.kept.pop("rope_parameters", None) or {}).items() if k not in _ROPE}
        if rope:
            config.kept["rope_parameters"] = rope
        return config

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        rope = {"rope_type": "default", "rope_theta": self.rope_theta, **self.kept.get("rope_parameters", {})}
        return {**values, "rope_parameters": rope}


def _rope_theta(values: Mapping[str, Any], default: float) -> Any:
    for name in ("rope_scaling", "rope_parameters"):  # the older name, which transformers prefers, and the newer
        rope = values.get(name) or {}
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind != "default":
            raise ValueError(f"config: {name} with rope_type {kind!r} is not supported; only 'default' is")
        if any(isinstance(value, dict) for value in rope.values()):
            raise ValueError(f"config: {name} that differ from layer to layer are not supported: {', '.join(rope)}")
        if "rope_theta" in rope:
            return rope["rope_theta"]
    return values.get("rope_theta", default)


class LlamaAttention(Module):
    """y = W_o concat_h(softmax(q_h k_gᵀ/√d) v_g) over the keys up to each query.    x [n,m]  →  y [n,m]

    h query heads share g key-value heads, h/g in a row to each (Ainslie et al., 2023). With R_p the turn by position p,
    q = R_t W_q x_t and k = R_s W_k x_s: their product sees t − s alone. Keys go into the cache turned, since their
    positions do not change. A bias of the keys is turned too, so that unlike BERT's softmax sees it.
    """

    def __init__(self, config: LlamaConfig, make: Factory) -> None:
        e, d, bias = config.hidden_size, config.head_dim, config.attention_bias
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.q_proj: Module = make.linear(e, self.heads * d, bias)
        self.k_proj: Module = make.linear(e, self.groups * d, bias)
        self.v_proj: Module = make.linear(e, self.groups * d, bias)
        self.o_proj: Module = make.linear(self.heads * d, e, bias)
        self.dropout = config.attention_dropout

    def forward(
        self, x: Array, packing: Packing, turn: Turn, rng: Rng = None, past: LayerCache | None = None,
    ) -> tuple[Array, Pullback]:  # fmt: skip
        q, back_q = self.q_proj(x, rng)  # [n,h·d]
        k, back_k = self.k_proj(x, rng)  # [n,g·d]
        v, back_v = self.v_proj(x, rng)  # [n,g·d]
        q, back_turn_q = rotary(q, turn, self.heads)
        k, back_turn_k = rotary(k, turn, self.groups)
        keys, values, key_packing = (k, v, packing) if past is None else past.append(k, v, packing)
        a, back_attention = packed_attention(
            q, keys, values, self.heads, packing, key_packing, causal, dropout_p=self.dropout,
            rng=active_rng(self, self.dropout, rng),
        )  # fmt: skip
        y, back_o = self.o_proj(a, rng)  # [n,h·d] → [n,m]

        def backward(dy: Array) -> Array:
            dq, dk, dv, _ = back_attention(back_o(dy))
            dx: Array = back_q(back_turn_q(dq)) + back_k(back_turn_k(dk)) + back_v(dv)  # x feeds all three
            return dx

        return y, backward


class LlamaMLP(Module):
    """y = W_down (silu(W_gate x) ⊙ W_up x).    x [n,m]  →  y [n,m]"""

    def __init__(self, config: LlamaConfig, make: Factory) -> None:
        d, f, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj: Module = make.linear(d, f, bias)
        self.up_proj: Module = make.linear(d, f, bias)
        self.down_proj: Module = make.linear(f, d, bias)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        gate, back_gate = self.gate_proj(x, rng)  # [n,f]
        up, back_up = self.up_proj(x, rng)  # [n,f]
        m, back_swiglu = swiglu(gate, up)
        y, back_down = self.down_proj(m, rng)  # [n,f] → [n,m]

        def backward(dy: Array) -> Array:
            dgate, dup = back_swiglu(back_down(dy))
            dx: Array = back_gate(dgate) + back_up(dup)  # x feeds both
            return dx

        return y, backward


class LlamaDecoderLayer(Module):
    def __init__(self, config: LlamaConfig, make: Factory) -> None:
        d, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = LlamaAttention(config, make)
        self.mlp = LlamaMLP(config, make)
        self.input_layernorm = RMSNorm(d, eps, dtype=make.dtype)
        self.post_attention_layernorm = RMSNorm(d, eps, dtype=make.dtype)

    def forward(
        self, x: Array, packing: Packing, turn: Turn, rng: Rng = None, past: LayerCache | None = None,
    ) -> tuple[Array, Pullback]:  # fmt: skip
        a, back_norm1 = self.input_layernorm(x)
        a, back_attention = self.self_attn(a, packing, turn, rng, past)
        h = x + a
        m, back_norm2 = self.post_attention_layernorm(h)
        m, back_mlp = self.mlp(m, rng)

        def backward(dy: Array) -> Array:
            dh: Array = dy + back_norm2(back_mlp(dy))  # h feeds the sum and the second norm
            dx: Array = dh + back_norm1(back_attention(dh))  # x feeds the sum and the first norm
            return dx

        return h + m, backward


class LlamaModel(PretrainedModel):
    """The decoder without a head.

    forward(input_ids [b,t], attention_mask [b,t], position_ids [b,t]) returns last_hidden_state [b,t,m], zeros at the
    padding; backward takes its gradient. As in transformers the embedding of `config.pad_token_id` gets no gradient.
    """

    config_class = LlamaConfig
    base_model_prefix = "model"
    default_target_modules = TARGETS
    ignored = BUFFERS

    def __init__(self, config: LlamaConfig, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        make = Factory(rng, dtype, config.initializer_range)
        self.config = config
        self.embed_tokens = make.embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = [LlamaDecoderLayer(config, make) for _ in range(config.num_hidden_layers)]
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, dtype=dtype)

    def rows(
        self, ids: Array, packing: Packing, positions: Array, rng: Rng = None, cache: Cache | None = None
    ) -> tuple[Array, Callable[[Array], None]]:
        """Rows before the last norm.    ids, positions int [n]  →  h [n,m]

        With a cache the rows follow those that it holds, and are added to it.
        """
        x, back_embedding = self.embed_tokens(ids)  # [n,m]
        turn = rotation(positions, self.config.head_dim, self.config.rope_theta, x.real.dtype)
        h, back_layers = stack(
            self.layers, x, packing, turn, rng=rng, below_is_trained=is_trained(self.embed_tokens),
            recompute=self.gradient_checkpointing,
            own_keywords=lambda index: {"past": None if cache is None else cache[index]},
        )  # fmt: skip

        def backward(dh: Array) -> None:
            dx = back_layers(dh)
            if dx is not None:
                back_embedding(dx)

        return h, backward

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        position_ids: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[BaseModelOutput, Callable[[Array], None]]:
        ids, padding = pack_tokens(input_ids, attention_mask)
        h, back_rows = self.rows(ids, padding.packing, packed_positions(position_ids, padding), rng)
        h, back_norm = self.norm(h)

        def backward(dhidden: Array) -> None:
            back_rows(back_norm(padding.pack(dhidden)))

        return BaseModelOutput(padding.unpack(h)), backward
