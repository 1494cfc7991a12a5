"""T5's layers, and the stack of them that its encoder is, and its decoder.

Pre-norm: each sublayer is x + f(RMSNorm(x)), without biases. Positions are seen by the scores alone, through a learnt
bias that all layers of a stack share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from npora.models.body import Rng
from npora.models.pretrained import Factory
from npora.models.relative import relative_buckets, shared_biases
from npora.models.tokens import Memory, Tokens, embedded
from npora.nn import Cache, Dropout, Embedding, LayerCache, Linear, Module, Packing, RMSNorm, init
from npora.nn.dropout import active_rng
from npora.nn.functional import ACTIVATIONS, causal, everything, gated, packed_attention
from npora.nn.module import Array, Parameter, Pullback, is_trained
from npora.nn.residual import Shared, chain, residual
from npora.nn.rules import Rule
from npora.nn.view import View, self_attention


def _linear(make: Factory, i: int, o: int, std: float) -> Linear:
    return Factory(make.rng, make.dtype, make.std * std).linear(i, o, bias=False)


class T5Attention(Module):
    """y = W_o concat_h(softmax(q_h k_hᵀ + bias) v_h), not divided by √d: W_q starts that much smaller instead.

    The bias [1|b,h,t,s], or [b,h,t,s] of the rows that are read, is shared by the layers of a stack:

        dbias = Σ over the layers of the scores' gradients        (1)
    """

    scale: float | None = 1.0
    relative_attention_bias: Module | None = None  # the table of the bias, which a stack's first layer holds

    def __init__(self, config: Any, make: Factory, rule: Rule = everything, has_bias: bool = False) -> None:
        d, inner = config.d_model, config.num_heads * config.d_kv
        self.q: Module = _linear(make, d, inner, (d * config.d_kv) ** -0.5)
        self.k: Module = _linear(make, d, inner, d**-0.5)
        self.v: Module = _linear(make, d, inner, d**-0.5)
        self.o: Module = _linear(make, inner, d, inner**-0.5)
        self.heads, self.rule, self.dropout = config.num_heads, rule, config.dropout_rate
        if has_bias:
            small = Factory(make.rng, make.dtype, make.std * d**-0.5)
            self.relative_attention_bias = small.embedding(config.relative_attention_num_buckets, self.heads)

    def forward(
        self, x: Array, view: View, bias: Shared, rng: Rng = None, past: LayerCache | None = None
    ) -> tuple[Array, Pullback]:
        """To x itself.    x [n,m]  →  y [k,m], of the rows that are read"""
        asking, back_pick = view.pick(x)  # [k,m]
        q, back_q = self.q(asking, rng)  # [k,h·d]
        k, back_k = self.k(x, rng)  # [n,h·d]
        v, back_v = self.v(x, rng)  # [n,h·d]
        a, back_attention = self_attention(
            q, k, v, self.heads, view, self.rule, past, bias=bias.value, scale=self.scale, dropout_p=self.dropout,
            rng=active_rng(self, self.dropout, rng),
        )  # fmt: skip
        y, back_o = self.o(a, rng)  # [k,m]

        def backward(dy: Array) -> Array:
            dq, dk, dv, dbias = back_attention(back_o(dy))
            assert dbias is not None
            bias.add(dbias)  # (1)
            return back_pick(back_q(dq)) + back_k(dk) + back_v(dv)  # x feeds all three

        return y, backward


class T5CrossAttention(T5Attention):
    """Without a bias, to what the encoder made: the memory [s,m], which all layers of the decoder read.

        dmemory = Σ over the layers of W_kᵀ dk + W_vᵀ dv        (1)

    With a cache the memory is read by the first call alone; later ones find its keys and values there.
    """

    def forward(  # type: ignore[override]  # it attends to something else
        self, x: Array, queries: Packing, memory: Shared, packing: Packing, rng: Rng = None,
        past: LayerCache | None = None,
    ) -> tuple[Array, Pullback]:  # fmt: skip
        """x [k,m]  →  y [k,m]; queries says which rows of x form which sequence, packing which of the memory."""
        source = memory.value
        if past is not None and len(past.lengths):
            source, packing = source[:0], Packing.of_lengths(np.zeros_like(past.lengths))  # nothing to add
        q, back_q = self.q(x, rng)  # [k,h·d]
        k, back_k = self.k(source, rng)  # [s,h·d]
        v, back_v = self.v(source, rng)  # [s,h·d]
        k, v, packing = (k, v, packing) if past is None else past.append(k, v, packing)
        a, back_attention = packed_attention(
            q, k, v, self.heads, queries, packing, scale=1.0, dropout_p=self.dropout,
            rng=active_rng(self, self.dropout, rng),
        )  # fmt: skip
        y, back_o = self.o(a, rng)  # [k,m]

        def backward(dy: Array) -> Array:
            dq, dk, dv, _ = back_attention(back_o(dy))
            memory.add(back_k(dk) + back_v(dv))  # (1)
            return back_q(dq)

        return y, backward


class T5DenseActDense(Module):
    """y = W_o dropout(activation(W_i x)).    x [n,m]  →  y [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        d, f = config.d_model, config.d_ff
        self.wi: Module = _linear(make, d, f, d**-0.5)
        self.wo: Module = _linear(make, f, d, f**-0.5)
        self.act, self.dropout = ACTIVATIONS[config.dense_act_fn], Dropout(config.dropout_rate)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        wi, dropout, wo = (partial(layer, rng=rng) for layer in (self.wi, self.dropout, self.wo))
        return chain(wi, self.act, dropout, wo)(x)  # [n,m] → [n,f] → [n,m]


class T5DenseGatedActDense(Module):
    """y = W_o dropout(activation(W_0 x) ⊙ W_1 x) (Shazeer, 2020).    x [n,m]  →  y [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
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
            return back_wi_0(dgate) + back_wi_1(dup)  # x feeds both

        return y, backward


class T5Sublayer(Module):
    """y = x + dropout(f(RMSNorm(x))), with f under the name that the files have for it.    x [n,m]  →  y [n,m]

    Of attention to itself, y [k,m] is of the rows that its view reads.
    """

    def __init__(self, config: Any, make: Factory, **f: Module) -> None:
        vars(self).update(f)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon, dtype=make.dtype)
        self.dropout = Dropout(config.dropout_rate)

    def forward(self, x: Array, rng: Rng = None, **given: Any) -> tuple[Array, Pullback]:
        """given : to f, beside x and rng"""
        _, f = next(self.named_children())  # it stands first
        layers = self.layer_norm, partial(f, rng=rng, **given), partial(self.dropout, rng=rng)
        return residual(chain(*layers), x, given.get("view"))


class T5Block(Module):
    """One layer of a stack: attention to itself, in a decoder to the memory, and feed-forward.    x [n,m]  →  y [k,m]

    backward returns dx, and adds to `bias` and `memory` what it gives back for them.
    """

    def __init__(self, config: Any, make: Factory, decoder: bool, has_bias: bool) -> None:
        attention = T5Attention(config, make, causal if decoder else everything, has_bias)
        self.layer: list[Any] = [T5Sublayer(config, make, SelfAttention=attention)]
        if decoder:
            self.layer.append(T5Sublayer(config, make, EncDecAttention=T5CrossAttention(config, make)))
        dense = (T5DenseGatedActDense if config.is_gated_act else T5DenseActDense)(config, make)
        self.layer.append(T5Sublayer(config, make, DenseReluDense=dense))

    def forward(
        self, x: Array, memory: Shared | None, memory_packing: Packing | None, view: View, bias: Shared,
        rng: Rng = None, past: LayerCache | None = None, cross: LayerCache | None = None,
    ) -> tuple[Array, Pullback]:  # fmt: skip
        layers = [partial(self.layer[0], view=view, bias=bias, past=past)]
        if memory is not None:
            layers += [partial(self.layer[1], queries=view.queries, memory=memory, packing=memory_packing, past=cross)]
        return chain(*(partial(layer, rng=rng) for layer in (*layers, self.layer[-1])))(x)


class T5Stack(Module):
    """The encoder, or the decoder.    ids int [n]  →  h [n,m], or [k,m] of the rows `read` alone"""

    def __init__(self, config: Any, make: Factory, shared: Parameter, decoder: bool) -> None:
        number = config.num_decoder_layers if decoder else config.num_layers
        self.embed_tokens: Module = Embedding(*shared.shape, rng=init.Unset(), dtype=make.dtype)
        self.embed_tokens.weight = shared  # one Parameter for both stacks, which sums their gradients
        self.block = [T5Block(config, make, decoder, has_bias=index == 0) for index in range(number or 0)]
        self.final_layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon, dtype=make.dtype)
        self.dropout = Dropout(config.dropout_rate)
        buckets, max_distance = config.relative_attention_num_buckets, config.relative_attention_max_distance
        self.bucket = partial(relative_buckets, bidirectional=not decoder, buckets=buckets, max_distance=max_distance)

    def forward(
        self, tokens: Tokens, through: Callable[..., Any], memory: Memory | None = None, rng: Rng = None,
        read: Array | None = None, cache: Cache | None = None, dmemory_is_read: bool = False,
    ) -> tuple[Array, Callable[[Array], Array | None]]:  # fmt: skip
        """through : the `Body.through` of the model. With a cache the rows follow those that it holds, and are added
        to it. backward returns dmemory."""
        table: Any = self.block[0].layer[0].SelfAttention.relative_attention_bias
        bias_of, back_biases = shared_biases(table, self.bucket, tokens.packing, read, len(self.block), cache)
        source, packing = (None, None) if memory is None else (Shared(memory.rows), memory.packing)

        def own(index: int) -> dict[str, Any]:
            kept = {} if cache is None else {"cross": cache["cross", index]}
            return {"bias": bias_of(index), **kept}

        x, back_embedding = embedded(tokens.words, self.embed_tokens)
        x, back_first = self.dropout(x, rng)  # [n,m]

        def below(dx: Array) -> Array | None:
            back_biases()
            back_embedding(back_first(dx))
            return None if source is None else source.gradient()

        h, back_blocks = through(
            self.block, x, below, tokens, source, packing, rng=rng, read=read, cache=cache, own=own,
            below_is_trained=is_trained(self.embed_tokens, table) or dmemory_is_read,
        )  # fmt: skip
        h, back_norm = self.final_layer_norm(h)  # [k,m]
        y, back_last = self.dropout(h, rng)
        return y, lambda dy: back_blocks(back_norm(back_last(dy)))
