"""T5 (Raffel et al., 2020): an encoder and a decoder that reads it, with Hugging Face's parameter names.

Rows: tokens are `[n,m]` without padding; the packing says which rows form which sequence. Pre-norm: each sublayer is
x + f(RMSNorm(x)), without biases. Positions are seen by the scores alone, through a learnt bias that all layers of a
stack share.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.machine.stored import same_values
from npora.models.body import Back, Body, Rng
from npora.models.encoder_decoder import EncoderDecoder, ForConditionalGeneration, shifted_right, up_to_the_last
from npora.models.families.t5_config import T5Config as T5Config
from npora.models.pretrained import Factory
from npora.models.relative import relative_bias, relative_buckets
from npora.models.tasks import ForSequenceClassification
from npora.models.tokens import Memory, Tokens
from npora.nn import Cache, Dropout, Embedding, LayerCache, Linear, Module, Packing, RMSNorm, init
from npora.nn.dropout import active_rng
from npora.nn.functional import ACTIVATIONS, causal, everything, gated, packed_attention, tanh
from npora.nn.init import Source
from npora.nn.module import Array, Parameter, Pullback, is_trained
from npora.nn.residual import chain, residual
from npora.nn.rules import Rule
from npora.nn.shared import Shared
from npora.nn.view import View, self_attention


def _linear(make: Factory, i: int, o: int, std: float) -> Linear:
    return Factory(make.rng, make.dtype, make.std * std).linear(i, o, bias=False)


class T5Attention(Module):
    """y = W_o concat_h(softmax(q_h k_hᵀ + bias) v_h), not divided by √d: W_q starts that much smaller instead.

    The bias [1|b,h,t,s], or [b,h,t,s] of the rows that are read, is shared by the layers of a stack:

        dbias = Σ over the layers of the scores' gradients        (1)
    """

    relative_attention_bias: Module | None = None  # the table of the bias, which a stack's first layer holds

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

    def forward(
        self, x: Array, view: View, bias: Shared, rng: Rng = None, past: LayerCache | None = None
    ) -> tuple[Array, Pullback]:
        """To x itself.    x [n,m]  →  y [k,m], of the rows that are read"""
        asking, back_pick = view.pick(x)  # [k,m]
        q, back_q = self.q(asking, rng)  # [k,h·d]
        k, back_k = self.k(x, rng)  # [n,h·d]
        v, back_v = self.v(x, rng)  # [n,h·d]
        a, back_attention = self_attention(
            q, k, v, self.heads, view, self.rule, past, bias=bias.value, scale=1.0, dropout_p=self.dropout,
            rng=active_rng(self, self.dropout, rng),
        )  # fmt: skip
        y, back_o = self.o(a, rng)  # [k,m]

        def backward(dy: Array) -> Array:
            dq, dk, dv, dbias = back_attention(back_o(dy))
            assert dbias is not None
            bias.add(dbias)  # (1)
            dx: Array = back_pick(back_q(dq)) + back_k(dk) + back_v(dv)  # x feeds all three
            return dx

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
            dx: Array = back_q(dq)
            return dx

        return y, backward


class T5DenseActDense(Module):
    """y = W_o dropout(activation(W_i x)).    x [n,m]  →  y [n,m]"""

    def __init__(self, config: T5Config, make: Factory) -> None:
        d, f = config.d_model, config.d_ff
        self.wi: Module = _linear(make, d, f, d**-0.5)
        self.wo: Module = _linear(make, f, d, f**-0.5)
        self.act, self.dropout = ACTIVATIONS[config.dense_act_fn], Dropout(config.dropout_rate)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        wi, dropout, wo = (partial(layer, rng=rng) for layer in (self.wi, self.dropout, self.wo))
        return chain(wi, self.act, dropout, wo)(x)  # [n,m] → [n,f] → [n,m]


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


class T5Sublayer(Module):
    """y = x + dropout(f(RMSNorm(x))), with f under the name that the files have for it.    x [n,m]  →  y [n,m]

    Of attention to itself, y [k,m] is of the rows that its view reads.
    """

    def __init__(self, config: T5Config, make: Factory, **f: Module) -> None:
        vars(self).update(f)
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon, dtype=make.dtype)
        self.dropout = Dropout(config.dropout_rate)
        self.name = next(iter(f))

    def forward(self, x: Array, rng: Rng = None, **given: Any) -> tuple[Array, Pullback]:
        """given : to f, beside x and rng"""
        f = partial(getattr(self, self.name), rng=rng, **given)
        return residual(chain(self.layer_norm, f, partial(self.dropout, rng=rng)), x, given.get("view"))


class T5Block(Module):
    """One layer of a stack: attention to itself, in a decoder to the memory, and feed-forward.    x [n,m]  →  y [k,m]

    backward returns dx, and adds to `bias` and `memory` what it gives back for them.
    """

    def __init__(self, config: T5Config, make: Factory, decoder: bool, has_bias: bool) -> None:
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
        self, tokens: Tokens, through: Callable[..., Any], memory: Memory | None = None, rng: Rng = None,
        read: Array | None = None, cache: Cache | None = None, dmemory_is_read: bool = False,
    ) -> tuple[Array, Callable[[Array], Array | None]]:  # fmt: skip
        """through : the `Body.through` of the model. With a cache the rows follow those that it holds, and are added
        to it. backward returns dmemory."""
        table: Any = self.block[0].layer[0].SelfAttention.relative_attention_bias
        views = [View(tokens.packing), View(tokens.packing, read)]  # of the layers, and of the last
        if views[1].read is None:
            del views[1]
        found = [relative_bias(table, self.bucket, view, cache) for view in views]
        biases, back_biases = [Shared(bias) for bias, _ in found], [back for _, back in found]
        source, packing = (None, None) if memory is None else (Shared(memory.rows), memory.packing)

        def own(index: int) -> dict[str, Any]:
            kept = {} if cache is None else {"cross": cache["cross", index]}
            return {"bias": biases[-1 if index == len(self.block) - 1 else 0], **kept}

        x, back_embedding = self.embed_tokens(tokens.ids)
        x, back_first = self.dropout(x, rng)  # [n,m]
        h, back_blocks = through(
            self.block, x, tokens, source, packing, rng=rng, read=read, cache=cache, own=own,
            below_is_trained=is_trained(self.embed_tokens, table) or dmemory_is_read,
        )  # fmt: skip
        h, back_norm = self.final_layer_norm(h)  # [k,m]
        y, back_last = self.dropout(h, rng)

        def backward(dy: Array) -> Array | None:
            dx = back_blocks(back_norm(back_last(dy)))
            if dx is None:
                return None
            for bias, back_bias in zip(biases, back_biases, strict=True):
                back_bias(bias.gradient())
            back_embedding(back_first(dx))
            return None if source is None else source.gradient()

        return y, backward


class T5Body(Body):
    """What T5's bodies have in common: the token embedding, and the encoder that stands on it."""

    config_class = T5Config
    base_model_prefix = "transformer"
    default_target_modules = ("q", "v")
    input_embeddings = "shared"
    inputs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")
    ignored = ("EncDecAttention.relative_attention_bias.weight",)  # the first T5s held one

    def __init__(self, config: T5Config, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        make = Factory(rng, dtype, config.initializer_factor)
        self.config = config
        self.shared = make.embedding(config.vocab_size, config.d_model)
        self.encoder = T5Stack(config, make, self.shared.weight, decoder=False)

    def tokens(self, *inputs: Any, **others: Any) -> Tokens:
        """As Body.tokens. Raises ValueError where padding stands between the tokens of a sequence."""
        tokens = super().tokens(*inputs, **others)
        tokens.of_the_batch.refuse_gaps("T5 sees distances")
        return tokens


class T5EncoderModel(T5Body):
    """The encoder alone."""

    @classmethod
    def adjust(cls, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Pass over the decoder of a whole T5."""
        for key in [key for key in tensors if key.startswith(("decoder.", "lm_head."))]:
            del tensors[key]

    def rows(
        self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None
    ) -> tuple[Array, Back]:
        h, back_encoder = self.encoder(tokens, self.through, rng=rng, read=read, cache=cache)

        def backward(dh: Array) -> None:
            back_encoder(dh)

        return h, backward


class T5Model(EncoderDecoder, T5Body):
    """The encoder, and the decoder that reads it, which stand on one token embedding."""

    def __init__(self, config: T5Config, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        rng = init.default_rng(rng)
        super().__init__(config, rng=rng, dtype=dtype)
        make = Factory(rng, dtype, config.initializer_factor)
        self.decoder = T5Stack(config, make, self.shared.weight, decoder=True)

    def encoded(self, source: Tokens, rng: Rng = None) -> tuple[Array, Callable[[Array], Any]]:
        return self.encoder(source, self.through, rng=rng)

    def decoded(
        self, tokens: Tokens, memory: Memory, rng: Rng, read: Array | None, cache: Cache | None
    ) -> tuple[Array, Callable[[Array], Array | None]]:
        trained = is_trained(self.encoder)
        return self.decoder(tokens, self.through, memory, rng, read, cache, dmemory_is_read=trained)


class T5ForConditionalGeneration(ForConditionalGeneration, T5Model):  # type: ignore[misc]  # it is its own body
    """T5 with a projection to the vocabulary beside its stacks, as the files have it: it is a body, and its own."""

    body_class = T5Model
    base_model_prefix = ""

    def __init__(self, config: T5Config, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        rng = init.default_rng(rng)
        T5Model.__init__(self, config, rng=rng, dtype=dtype)
        self.add_head(config, Factory(rng, dtype, config.initializer_factor))
        self.scale = config.d_model**-0.5 if config.scale_decoder_outputs else 1.0

    @classmethod
    def adjust(cls, values: dict[str, Any], tensors: dict[str, Any]) -> None:
        """The head is tied unless the file holds another one: transformers writes tie_word_embeddings as true for
        either. What older configs meant by it besides, the scale of the decoder's output, is read first."""
        values.setdefault("scale_decoder_outputs", values.get("tie_word_embeddings", True) is not False)
        head, names = tensors.get("lm_head.weight"), ("shared", "encoder.embed_tokens", "decoder.embed_tokens")
        embedding = next((tensors[f"{name}.weight"] for name in names if f"{name}.weight" in tensors), None)
        values["tie_word_embeddings"] = head is None or embedding is None or same_values(head, embedding)

    @property
    def body(self) -> T5Model:
        return self

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        scale = self.scale
        return h * scale, lambda dz: dz * scale


class T5ClassificationHead(Module):
    """W₂ dropout(tanh(W₁ dropout(x) + b₁)) + b₂.    x [b,m]  →  [b,v]"""

    def __init__(self, config: T5Config, make: Factory) -> None:
        self.dense: Module = make.linear(config.d_model, config.d_model)
        self.out_proj: Module = make.linear(config.d_model, config.num_labels)
        self.dropout = Dropout(config.classifier_dropout)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        dropout, dense, out_proj = (partial(layer, rng=rng) for layer in (self.dropout, self.dense, self.out_proj))
        return chain(dropout, dense, tanh, dropout, out_proj)(x)


class T5ForSequenceClassification(ForSequenceClassification):
    """T5 with a head on the decoder's row of each sequence's last end-of-sequence token, where the decoder reads the
    same ids as the encoder, shifted to the right.

    Raises ValueError where a sequence has no `config.eos_token_id`, or another number of them than the rest.
    """

    body_class = T5Model
    inputs = ("input_ids", "attention_mask", "labels")
    may_lack = ("classification_head.",)
    ignored = (*T5Model.ignored, "lm_head.weight")

    def add_head(self, config: T5Config, make: Factory) -> None:
        make = Factory(make.rng, make.dtype, config.initializer_factor * config.d_model**-0.5)
        self.classification_head: Module = T5ClassificationHead(config, make)

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return self.classification_head(h, rng)

    def pack(
        self, input_ids: npt.ArrayLike, attention_mask: npt.ArrayLike | None, **others: npt.ArrayLike | None
    ) -> Tokens:
        source = self.body.tokens(input_ids, attention_mask, **others)
        ends = np.isin(np.asarray(input_ids), self.config.eos_token_id) & source.of_the_batch.mask  # [b,t]
        counts = ends.sum(axis=1)
        if not counts.all() or len(set(counts)) > 1:
            raise ValueError(
                "each sequence must hold the same number of end-of-sequence tokens, at least one; found "
                f"{counts.tolist()} of config.eos_token_id {self.config.eos_token_id}"
            )
        ids = shifted_right(input_ids, self.config)
        tokens: Tokens = self.body.tokens(ids, up_to_the_last(ends), source=source)
        return tokens

    def read(self, tokens: Tokens) -> Array:
        """int [b]: each sequence's last row, which follows its last end."""
        return tokens.packing.last_rows()


TASKS = {"Seq2SeqLM": T5ForConditionalGeneration, "SequenceClassification": T5ForSequenceClassification}
