"""Llama (Touvron et al., 2023), with Hugging Face's parameter names; SmolLM2 and other models of its kind too.

Pre-norm: each sublayer is x + f(RMSNorm(x)). A position is an angle by which queries and keys are turned, so there is
no table of positions, and no longest sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Back, Body, Rng, Rows
from npora.models.config import PretrainedConfig
from npora.models.pretrained import Factory
from npora.models.question_answering import ForQuestionAnswering
from npora.models.rope import RotaryConfig
from npora.models.tasks import ForCausalLM, ScoredSequences, ScoredTokens
from npora.models.tokens import Tokens, embedded
from npora.nn import Cache, LayerCache, Module, Padding, RMSNorm
from npora.nn.dropout import active_rng
from npora.nn.functional import ACTIVATIONS, causal, gated, rotary, rotation
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained
from npora.nn.residual import Layer, chain, residual
from npora.nn.rules import Rule
from npora.nn.view import View, self_attention

Turn = tuple[Array, Array]  # cosines and sines of the positions
Projections = tuple[tuple[Array, Array, Array], Callable[[Array, Array, Array], Array]]  # (q, k, v), and the pullback


@dataclass(kw_only=True)
class LlamaLikeConfig(RotaryConfig):
    """What the configs of Llama and of the families that vary it have in common.

    num_key_value_heads : a divisor of num_attention_heads, which it equals unless given
    head_dim : hidden_size / num_attention_heads unless given
    """

    sizes: ClassVar[tuple[str, ...]] = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
                                        "num_attention_heads", "num_key_value_heads")  # fmt: skip

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = None  # type: ignore[assignment]  # a whole number once constructed
    rms_norm_eps: float = 1e-6
    attention_dropout: float = 0.0
    tie_word_embeddings: bool = False
    attention_bias = mlp_bias = False  # where a family has no field for them, whatever a file says

    def rule(self, index: int) -> Rule:
        """Which keys the queries of a layer see: a place for a family with windows."""
        return causal

    def __post_init__(self) -> None:
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        super().__post_init__()
        self._divides("num_key_value_heads", "num_attention_heads")
        if self.head_dim is None:
            self._divides("num_attention_heads", "hidden_size")
            self.head_dim = self.hidden_size // self.num_attention_heads
        self._check_rotation()


@dataclass(kw_only=True)
class LlamaConfig(LlamaLikeConfig):
    """A Llama's `config.json`; the defaults are Llama-2-7B's."""

    model_type = "llama"

    hidden_act: str = "silu"
    attention_bias: bool = False
    mlp_bias: bool = False
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2


class LlamaAttention(Module):
    """y = W_o concat_h(softmax(q_h k_gᵀ/√d) v_g) over the keys up to each query.    x [n,m]  →  y [k,m]

    h query heads share g key-value heads, h/g in a row to each (Ainslie et al., 2023). With R_p the turn by position p,
    q = R_t W_q x_t and k = R_s W_k x_s: their product sees t − s alone. Keys go into the cache turned, since their
    positions do not change. A bias of the keys is turned too, so that unlike BERT's softmax sees it.

    Families that vary it write `biases` and `projections`, or set `scale`.
    """

    scale: float | None = None  # 1/√d

    def __init__(self, config: Any, make: Factory, index: int) -> None:
        m, d, (bias, o_bias) = config.hidden_size, config.head_dim, self.biases(config)
        self.heads, self.groups, self.rule = config.num_attention_heads, config.num_key_value_heads, config.rule(index)
        self.q_proj: Module = make.linear(m, self.heads * d, bias)
        self.k_proj: Module = make.linear(m, self.groups * d, bias)
        self.v_proj: Module = make.linear(m, self.groups * d, bias)
        self.o_proj: Module = make.linear(self.heads * d, m, o_bias)
        self.dropout = config.attention_dropout

    def biases(self, config: Any) -> tuple[bool, bool]:
        """Whether q, k and v have one, and whether o has."""
        return config.attention_bias, config.attention_bias

    def projections(self, x: Array, view: View, rng: Rng = None) -> Projections:
        """x [n,m]  →  q [k,h·d] of the rows that are read, k, v [n,g·d] of all; backward takes (dq, dk, dv)."""
        asking, back_pick = view.pick(x)  # [k,m]
        q, back_q = self.q_proj(asking, rng)  # [k,h·d]
        k, back_k = self.k_proj(x, rng)  # [n,g·d]
        v, back_v = self.v_proj(x, rng)  # [n,g·d]

        def backward(dq: Array, dk: Array, dv: Array) -> Array:
            return back_pick(back_q(dq)) + back_k(dk) + back_v(dv)  # x feeds all three

        return (q, k, v), backward

    def forward(
        self, x: Array, turn: Turn | None, view: View, rng: Rng = None, past: LayerCache | None = None
    ) -> tuple[Array, Pullback]:
        """turn : of all rows; None in a layer that sees no positions"""
        (q, k, v), back_projections = self.projections(x, view, rng)
        q, back_turn_q = turned(q, turn, self.heads, view)
        k, back_turn_k = turned(k, turn, self.groups)
        a, back_attention = self_attention(
            q, k, v, self.heads, view, self.rule, past, scale=self.scale, dropout_p=self.dropout,
            rng=active_rng(self, self.dropout, rng),
        )  # fmt: skip
        y, back_o = self.o_proj(a, rng)  # [k,h·d] → [k,m]

        def backward(dy: Array) -> Array:
            dq, dk, dv, _ = back_attention(back_o(dy))
            return back_projections(back_turn_q(dq), back_turn_k(dk), dv)

        return y, backward


def turned(x: Array, turn: Turn | None, heads: int, view: View | None = None) -> tuple[Array, Pullback]:
    """`rotary` of the rows that a view reads, by the turn of all rows.    x [k,h·d]"""
    if turn is None:
        return x, lambda dx: dx
    cos, sin = turn
    return rotary(x, turn if view is None else (view.at(cos), view.at(sin)), heads)


class LlamaMLP(Module):
    """y = W_down (a(W_gate x) ⊙ W_up x), with a = silu in Llama.    x [n,m]  →  y [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        m, f, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj: Module = make.linear(m, f, bias)
        self.up_proj: Module = make.linear(m, f, bias)
        self.down_proj: Module = make.linear(f, m, bias)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        gate, back_gate = self.gate_proj(x, rng)  # [n,f]
        up, back_up = self.up_proj(x, rng)  # [n,f]
        f, back_gated = gated(gate, up, self.activation)
        y, back_down = self.down_proj(f, rng)  # [n,f] → [n,m]

        def backward(dy: Array) -> Array:
            dgate, dup = back_gated(back_down(dy))
            return back_gate(dgate) + back_up(dup)  # x feeds both

        return y, backward


class LlamaDecoderLayer(Module):
    """h = x + attention(RMSNorm(x)), y = h + MLP(RMSNorm(h)).    x [n,m]  →  y [k,m], of the rows that are read

    Families whose norms stand elsewhere make them, and write `sublayers`.
    """

    attention_class: ClassVar[type[LlamaAttention]] = LlamaAttention
    mlp_class: ClassVar[Callable[..., Module]] = LlamaMLP
    norm_class: ClassVar[type[RMSNorm]] = RMSNorm

    def __init__(self, config: Any, make: Factory, index: int) -> None:
        m, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = self.attention_class(config, make, index)
        self.mlp: Module = self.mlp_class(config, make)
        self.input_layernorm = self.norm_class(m, eps, dtype=make.dtype)
        self.post_attention_layernorm = self.norm_class(m, eps, dtype=make.dtype)

    def forward(
        self, x: Array, turn: Turn | None, view: View, rng: Rng = None, past: LayerCache | None = None
    ) -> tuple[Array, Pullback]:
        attend = partial(self.self_attn, turn=turn, view=view, rng=rng, past=past)
        attention, feed_forward = self.sublayers(attend, partial(self.mlp, rng=rng))
        return chain(partial(residual, attention, view=view), partial(residual, feed_forward))(x)

    def sublayers(self, attend: Layer, feed_forward: Layer) -> tuple[Layer, Layer]:
        """Both, each with its norms."""
        return chain(self.input_layernorm, attend), chain(self.post_attention_layernorm, feed_forward)


class LlamaModel(Body):
    """The decoder without a head. As in transformers the embedding of `config.pad_token_id` gets no gradient.

    Families that vary it name their `layer_class`, and write `embed` or `turns`.
    """

    config_class: ClassVar[type[PretrainedConfig]] = LlamaConfig
    base_model_prefix = "model"
    default_target_modules: ClassVar[tuple[str, ...]] = ("q_proj", "v_proj")
    input_embeddings = "embed_tokens"
    ignored = (".rotary_emb.inv_freq",)  # the angles; older files hold them
    layer_class: ClassVar[type[LlamaDecoderLayer]] = LlamaDecoderLayer

    def __init__(self, config: Any, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32) -> None:
        make = Factory(rng, dtype, config.initializer_range)
        self.config, self.frequencies = config, config.frequencies()
        self.embed_tokens = make.embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = [self.layer_class(config, make, index) for index in range(config.num_hidden_layers)]
        self.norm = self.layer_class.norm_class(config.hidden_size, config.rms_norm_eps, dtype=dtype)

    def rows(self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None) -> Rows:
        x, back_embedding = embedded(tokens.words, self.embed)  # [n,m]
        turns = self.turns(tokens.positions, x.real.dtype)
        h, back_layers = self.through(
            self.layers, x, back_embedding, tokens, below_is_trained=is_trained(self.embed_tokens), read=read,
            cache=cache, rng=rng, own=lambda index: {"turn": turns[index]},
        )  # fmt: skip
        h, back_norm = self.norm(h)  # [k,m]
        return h, lambda dh: back_layers(back_norm(dh))

    def check_padding(self, padding: Padding, length: int) -> None:
        """A window counts rows here, and columns in transformers: where there is one that hides keys, they must be the
        same."""
        if any(layer.self_attn.rule(length - 1)[0] > 0 for layer in self.layers):
            padding.refuse_gaps("a window of attention counts them")

    def embed(self, ids: Array) -> tuple[Array, Back]:
        """int [n]  →  [n,m]"""
        return self.embed_tokens(ids)

    def turns(self, positions: Array, dtype: npt.DTypeLike) -> Sequence[Turn | None]:
        """Each layer's turn, here the same for all; None in a layer that sees no positions.    positions int [n]"""
        turn = rotation(positions, self.frequencies, dtype)
        return [turn] * len(self.layers)


class LlamaForCausalLM(ForCausalLM):
    body_class = LlamaModel


class LlamaForSequenceClassification(ScoredSequences):
    body_class = LlamaModel


class LlamaForTokenClassification(ScoredTokens):
    body_class = LlamaModel


class LlamaForQuestionAnswering(ForQuestionAnswering):
    body_class = LlamaModel
    base_model_prefix = "transformer"  # the files' name for the body, in this task alone
