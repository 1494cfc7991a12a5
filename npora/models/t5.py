"""T5 (Raffel et al., 2020): an encoder and a decoder that reads it, with Hugging Face's parameter names.

Rows: tokens are `[n,m]` without padding; the packing says which rows form which sequence. Pre-norm: each sublayer is
x + f(RMSNorm(x)), without biases. Positions are seen by the scores alone, through a learnt bias that all layers of a
stack share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from npora.models.pretrained import Factory
from npora.models.relative import relative_bias, relative_buckets
from npora.models.t5_config import T5Config
from npora.nn import Cache, Dropout, Embedding, LayerCache, Linear, Module, Packing, RMSNorm, init, stack
from npora.nn.dropout import active_rng
from npora.nn.functional import ACTIVATIONS, causal, everything, gated, packed_attention
from npora.nn.module import Array, Parameter, Pullback, is_trained
from npora.nn.rules import Rule

Rng = np.random.Generator | None
State = tuple[Array, Array, Array | None]


def _linear(make: Factory, i: int, o: int, std: float) -> Linear:
    return Factory(make.rng, make.dtype, make.std * std).linear(i, o, bias=False)


class T5Attention(Module):
    """y = W_o concat_h(softmax(q_h k_hᵀ + bias) v_h), not divided by √d: W_q starts that much smaller instead.

    x [n,m] asks and source [s,m] is read, which is x itself or what the encoder made. Their shares are apart, since a
    decoder computes the keys and values of the encoder's rows once.
    """

    relative_attention_bias: Module | None = None

    def __init__(self, config: T5Config, make: Factory, rule: Rule = everything, has_bias: bool = False) -> None:
        d, inner = config.d_model, config.num_heads * config.d_kv
        self.q: Module = _linear(make, d, inner, (d * config.d_kv) ** -0.5)
        self.k: Module = _linear(make, d, inner, d**-0.5)
        self.v: Module = _linear(make, d, inner, d**-0.5)
        self.o: Module = _linear(make, inner, d, inner**-0.5)
        self.heads, self.rule, self.dropout = config.num_heads, rule, config.dropout_rate
        if has_bias:
            small = Factory(make.rng, make.dtype, make.std * d**-0.5)
            self.relative_attention_bias = small.embedding(config.relative_attention_num_buckets, self.heads)

    def keys_and_values(self, source: Array, rng: Rng) -> tuple[tuple[Array, Array], Callable[[Array, Array], Array]]:
        """source [s,m]  →  k, v [s,h·d]; backward takes (dk, dv)."""
        k, back_k = self.k(source, rng)
        v, back_v = self.v(source, rng)

        def backward(dk: Array, dv: Array) -> Array:
            dsource: Array = back_k(dk) + back_v(dv)  # source feeds both
            return dsource

        return (k, v), backward

    def forward(
        self, x: Array, k: Array, v: Array, packing: Packing, key_packing: Packing, bias: Array | None, rng: Rng = None,

    ) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array, Array | None]]]:  # fmt: skip
        """x [n,m]  k, v [s,h·d]  bias [1|b,h,t,s]  →  y [n,m]; backward gives (dx, dk, dv, dbias)."""
        q, back_q = self.q(x, rng)  # [n,h·d]
        a, back_attention = packed_attention(
            q, k, v, self.heads, packing, key_packing, self.rule, bias=bias, scale=1.0,
            dropout_p=self.dropout, rng=active_rng(self, self.dropout, rng),
        )  # fmt: skip
        y, back_o = self.o(a, rng)  # [n,m]

        def backward(dy: Array) -> tuple[Array, Array, Array, Array | None]:
            dq, dk, dv, dbias = back_attention(back_o(dy))
            return back_q(dq), dk, dv, dbias

        return y, backward


class T5LayerSelfAttention(Module):
    """y = x + dropout(attention of RMSNorm(x) to itself).    x [n,m]  bias [1|b,h,t,s]; backward gives (dx, dbias)"""

    def __init__(self, config: T5Config, make: Factory, decoder: bool, has_bias: bool) -> None:
        self.SelfAttention = T5Attention(config, make, causal if decoder else everything, has_bias)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon, dtype=make.dtype)
        self.dropout = Dropout(config.dropout_rate)

    def forward(
        self, x: Array, bias: Array, packing: Packing, rng: Rng = None, past: LayerCache | None = None,

    ) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:  # fmt: skip
        z, back_norm = self.layer_norm(x)
        (k, v), back_keys = self.SelfAttention.keys_and_values(z, rng)
        k, v, key_packing = (k, v, packing) if past is None else past.append(k, v, packing)
        a, back_attention = self.SelfAttention(z, k, v, packing, key_packing, bias, rng)
        a, back_dropout = self.dropout(a, rng)

        def backward(dy: Array) -> tuple[Array, Array]:
            dz, dk, dv, dbias = back_attention(back_dropout(dy))
            dz = dz + back_keys(dk, dv)  # z asks and is read
            dx = dy + back_norm(dz)  # x feeds the sum and the norm
            return dx, dbias

        return x + a, backward


class T5LayerCrossAttention(Module):
    """y = x + dropout(attention of RMSNorm(x) to the encoder's rows).    x [n,m]  memory [s,m]; backward: (dx, dmemory)

    With a cache the memory is read by the first call alone; later ones find its keys and values there.
    """

    def __init__(self, config: T5Config, make: Factory) -> None:
        self.EncDecAttention = T5Attention(config, make)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon, dtype=make.dtype)
        self.dropout = Dropout(config.dropout_rate)

    def forward(
        self, x: Array, memory: Array, packing: Packing, memory_packing: Packing, rng: Rng = None,
        past: LayerCache | None = None,
    ) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:  # fmt: skip
        if past is not None and len(past.lengths):
            memory, memory_packing = memory[:0], Packing.of_lengths(np.zeros_like(past.lengths))  # nothing to add
        z, back_norm = self.layer_norm(x)
        (k, v), back_keys = self.EncDecAttention.keys_and_values(memory, rng)
        k, v, key_packing = (k, v, memory_packing) if past is None else past.append(k, v, memory_packing)
        a, back_attention = self.EncDecAttention(z, k, v, packing, key_packing, None, rng)
        a, back_dropout = self.dropout(a, rng)

        def backward(dy: Array) -> tuple[Array, Array]:
            dz, dk, dv, _ = back_attention(back_dropout(dy))
            return dy + back_norm(dz), back_keys(dk, dv)

        return x + a, backward


class T5DenseActDense(Module):
    """y = W_o dropout(activation(W_i x)).    x [n,m]  →  y [n,m]"""

    def __init__(self, config: T5Config, make: Factory) -> None:
        d, f = config.d_model, config.d_ff
        self.wi: Module = _linear(make, d, f, d**-0.5)
        self.wo: Module = _linear(make, f, d, f**-0.5)
        self.act, self.dropout = ACTIVATIONS[config.dense_act_fn], Dropout(config.dropout_rate)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        f, back_wi = self.wi(x, rng)  # [n,f]
        f, back_act = self.act(f)
        f, back_dropout = self.dropout(f, rng)
        y, back_wo = self.wo(f, rng)  # [n,m]
        return y, lambda dy: back_wi(back_act(back_dropout(back_wo(dy))))


class T5DenseGatedActDense(Module):
    """y = W_o dropout(activation(W_0 x) ⊙ W_1 x) (Shazeer, 2020).    x [n,m]  →  y [n,m]"""

    def __init__(self, config: T5Config, make: Factory) -> None:
        d, f = config.d_model, config.d_ff
        self.wi_0: Module = _linear(make, d, f, d**-0.5)
        self.wi_1: Module = _linear(make, d, f, d**-0.5)
        self.wo: Module = _linear(make, f, d, f**-0.5)
        self.act, self.dropout = ACTIVATIONS[config.dense_act_fn], Dropout(config.dropout_rate)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        gate, back_wi_0 = self.wi_0(x, rng)  # [n,f]
        up, back_wi_1 = self.wi_1(x, rng)  # [n,f]
        f, back_gated = gated(gate, up, self.act)
        f, back_dropout = self.dropout(f, rng)
        y, back_wo = self.wo(f, rng)  # [n,m]

        def backward(dy: Array) -> Array:
            dgate, dup = back_gated(back_dropout(back_wo(dy)))
            dx: Array = back_wi_0(dgate) + back_wi_1(dup)  # x feeds both
            return dx

        return y, backward


class T5LayerFF(Module):
    """y = x + dropout(feed-forward of RMSNorm(x)).    x [n,m]  →  y [n,m]"""

    def __init__(self, config: T5Config, make: Factory) -> None:
        self.DenseReluDense = (T5DenseGatedActDense if config.is_gated_act else T5DenseActDense)(config, make)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon, dtype=make.dtype)
        self.dropout = Dropout(config.dropout_rate)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        f, back_norm = self.layer_norm(x)
        f, back_dense = self.DenseReluDense(f, rng)
        f, back_dropout = self.dropout(f, rng)
        return x + f, lambda dy: dy + back_norm(back_dense(back_dropout(dy)))


class T5Block(Module):
    """One layer of a stack: (x, bias, memory) ↦ (y, bias, memory), where an encoder has no memory.

    What all layers share, they hand on unchanged. So the gradient that comes back for it is that of the layers above,
    to which this layer adds its own:

        dbias ← dbias + self-attention's         (1)
        dmemory ← dmemory + cross-attention's    (2)
    """

    def __init__(self, config: T5Config, make: Factory, decoder: bool, has_bias: bool) -> None:
        self.layer: list[Any] = [T5LayerSelfAttention(config, make, decoder, has_bias)]
        if decoder:
            self.layer.append(T5LayerCrossAttention(config, make))
        self.layer.append(T5LayerFF(config, make))

    def forward(
        self, state: State, packing: Packing, memory_packing: Packing | None = None, rng: Rng = None,
        past: LayerCache | None = None, cross: LayerCache | None = None,
    ) -> tuple[State, Callable[[State], State]]:  # fmt: skip
        x, bias, memory = state
        back_cross: Any = None
        x, back_self = self.layer[0](x, bias, packing, rng, past)
        if memory is not None:
            x, back_cross = self.layer[1](x, memory, packing, memory_packing, rng, cross)
        y, back_feed_forward = self.layer[-1](x, rng)

        def backward(dstate: State) -> State:
            dx, dbias, dmemory = dstate
            dx = back_feed_forward(dx)
            if dmemory is not None:
                dx, own = back_cross(dx)
                dmemory = dmemory + own  # (2)
            dx, own = back_self(dx)
            return dx, dbias + own, dmemory  # (1)

        return (y, bias, memory), backward


class T5Stack(Module):
    """The encoder, or the decoder.    ids int [n]  memory [s,m] of the encoder  →  h [n,m]"""

    def __init__(self, config: T5Config, make: Factory, shared: Parameter, decoder: bool) -> None:
        number = config.num_decoder_layers if decoder else config.num_layers
        self.embed_tokens: Module = Embedding(*shared.shape, rng=init.Unset(), dtype=make.dtype)
        self.embed_tokens.weight = shared  # one Parameter for both stacks, which sums their gradients
        self.block = [T5Block(config, make, decoder, has_bias=index == 0) for index in range(number or 0)]
        self.final_layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon, dtype=make.dtype)
        self.dropout = Dropout(config.dropout_rate)
        buckets, max_distance = config.relative_attention_num_buckets, config.relative_attention_max_distance
        self.bucket = partial(relative_buckets, bidirectional=not decoder, buckets=buckets, max_distance=max_distance)

    def forward(
        self, ids: Array, packing: Packing, memory: Array | None = None, memory_packing: Packing | None = None,
        rng: Rng = None, cache: Cache | None = None, dmemory_is_read: bool = False, recompute: bool = False,
    ) -> tuple[Array, Callable[[Array], Array | None]]:  # fmt: skip
        """With a cache the rows follow those that it holds, and are added to it. backward returns dmemory."""
        table = self.block[0].layer[0].SelfAttention.relative_attention_bias
        bias, back_bias = relative_bias(table, self.bucket, packing, cache)
        x, back_embedding = self.embed_tokens(ids)
        x, back_first = self.dropout(x, rng)  # [n,m]
        trained = is_trained(self.embed_tokens, table)
        start: State = (x, bias, memory)
        (h, _, _), back_blocks = stack(
            self.block, start, packing, memory_packing, rng=rng, below_is_trained=trained or dmemory_is_read,
            recompute=recompute,
            own_keywords=lambda i: {} if cache is None else {"past": cache[i], "cross": cache["cross", i]},
        )  # fmt: skip
        h, back_norm = self.final_layer_norm(h)
        y, back_last = self.dropout(h, rng)

        def backward(dy: Array) -> Array | None:
            dh = back_norm(back_last(dy))
            state = back_blocks((dh, np.zeros_like(bias), None if memory is None else np.zeros_like(memory)))
            if state is None:
                return None
            dx, dbias, dmemory = state
            back_bias(dbias)
            back_embedding(back_first(dx))
            return dmemory

        return y, backward
