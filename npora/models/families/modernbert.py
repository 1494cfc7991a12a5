"""ModernBERT (Warner et al., 2024): an encoder whose tokens see a window around them, and in each third layer all.

Pre-norm: each sublayer is x + f(LN(x)), where the first attention's norm is the embeddings' own. Positions are angles,
of two bases; the feed-forward is gated; as a rule nothing has a bias. The config has a file of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.models.body import Back, Body, Rng, Rows
from npora.models.families.llama import Turn, turned
from npora.models.families.modernbert_config import ModernBertConfig
from npora.models.multiple_choice import ForMultipleChoice
from npora.models.pretrained import Factory
from npora.models.question_answering import ForQuestionAnswering
from npora.models.tasks import ForMaskedLM, ForSequenceClassification, ForTokenClassification, Headed, projection
from npora.models.tokens import Tokens, embedded
from npora.nn import Cache, Dropout, LayerNorm, Module, Padding, Parameter
from npora.nn.dropout import active_rng
from npora.nn.functional import ACTIVATIONS, frequencies, gated, rotation
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained
from npora.nn.packing import mean_of_sequences
from npora.nn.residual import chain, residual
from npora.nn.view import View, self_attention


def _norm(config: Any, make: Factory) -> LayerNorm:
    return LayerNorm(config.hidden_size, config.norm_eps, bias=config.norm_bias, dtype=make.dtype)


def _out(config: Any, make: Factory) -> Factory:
    """Of the layers that add to the residual: the more there are, the smaller they start."""
    return Factory(make.rng, make.dtype, make.std / math.sqrt(2 * max(config.num_hidden_layers, 1)))


class ModernBertEmbeddings(Module):
    """h = dropout(LN(word)).    →  h [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.tok_embeddings = make.embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.norm, self.drop = _norm(config, make), Dropout(config.embedding_dropout)

    def forward(self, words: Any, rng: Rng = None) -> tuple[Array, Back]:
        word, back_word = embedded(words, self.tok_embeddings)  # [n,m]
        h, back_norm = chain(self.norm, partial(self.drop, rng=rng))(word)
        return h, lambda dh: back_word(back_norm(dh))


class ModernBertAttention(Module):
    """y = dropout(W_o concat_h(softmax(q_h k_hᵀ/√d) v_h)), with q, k and v as one product.    x [n,m]  →  y [k,m]

    Queries and keys are turned by their positions. The product is computed for all rows, since an adapter may sit on
    the whole of it, and q is then taken of those that are read.
    """

    def __init__(self, config: Any, make: Factory, index: int) -> None:
        m = config.hidden_size
        self.Wqkv: Module = make.linear(m, 3 * m, config.attention_bias)
        self.Wo: Module = _out(config, make).linear(m, m, config.attention_bias)
        self.heads, self.rule, self.dropout = config.num_attention_heads, config.rule(index), config.attention_dropout
        self.out_drop = Dropout(config.attention_dropout)

    def forward(self, x: Array, turn: Turn, view: View, rng: Rng = None) -> tuple[Array, Pullback]:
        qkv, back_qkv = self.Wqkv(x, rng)  # [n,3m]
        q, k, v = np.split(qkv, 3, axis=1)  # [n,m] each
        q, back_pick = view.pick(q)  # [k,m]
        q, back_turn_q = turned(q, turn, self.heads, view)
        k, back_turn_k = turned(k, turn, self.heads)
        a, back_attention = self_attention(
            q, k, v, self.heads, view, self.rule, dropout_p=self.dropout, rng=active_rng(self, self.dropout, rng)
        )
        y, back_o = chain(partial(self.Wo, rng=rng), partial(self.out_drop, rng=rng))(a)  # [k,m]

        def backward(dy: Array) -> Array:
            dq, dk, dv, _ = back_attention(back_o(dy))
            return back_qkv(np.concatenate([back_pick(back_turn_q(dq)), back_turn_k(dk), dv], axis=1))

        return y, backward


class ModernBertMLP(Module):
    """y = W_o dropout(a(g) ⊙ u), with g above u in W_i x.    x [n,m]  →  y [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        m, f = config.hidden_size, config.intermediate_size
        self.Wi: Module = make.linear(m, 2 * f, config.mlp_bias)
        self.Wo: Module = _out(config, make).linear(f, m, config.mlp_bias)
        self.act, self.drop = ACTIVATIONS[config.hidden_activation], Dropout(config.mlp_dropout)

    def forward(self, x: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        both, back_i = self.Wi(x, rng)
        gate, up = np.split(both, 2, axis=1)  # [n,f], [n,f]
        f, back_gated = gated(gate, up, self.act)
        y, back_o = chain(partial(self.drop, rng=rng), partial(self.Wo, rng=rng))(f)  # [n,f] → [n,m]
        return y, lambda dy: back_i(np.concatenate(back_gated(back_o(dy)), axis=1))


class ModernBertEncoderLayer(Module):
    """h = x + attention(LN(x)), y = h + MLP(LN(h)).    x [n,m]  →  y [k,m], of the rows that are read

    The first layer has no LN before its attention.
    """

    attn_norm: Module | None = None

    def __init__(self, config: Any, make: Factory, index: int) -> None:
        if index:
            self.attn_norm = _norm(config, make)
        self.attn = ModernBertAttention(config, make, index)
        self.mlp_norm, self.mlp = _norm(config, make), ModernBertMLP(config, make)

    def forward(self, x: Array, turn: Turn, view: View, rng: Rng = None) -> tuple[Array, Pullback]:
        attend: Callable[..., Any] = partial(self.attn, turn=turn, view=view, rng=rng)
        attend = attend if self.attn_norm is None else chain(self.attn_norm, attend)
        feed_forward = chain(self.mlp_norm, partial(self.mlp, rng=rng))
        return chain(partial(residual, attend, view=view), partial(residual, feed_forward))(x)


class ModernBertModel(Body):
    """The encoder without a head."""

    config_class = ModernBertConfig
    base_model_prefix = "model"
    default_target_modules = ("Wqkv",)
    input_embeddings = "embeddings.tok_embeddings"

    def __init__(self, config: Any, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32) -> None:
        make = Factory(rng, dtype, config.initializer_range)
        self.config = config
        self.embeddings = ModernBertEmbeddings(config, make)
        self.layers = [ModernBertEncoderLayer(config, make, index) for index in range(config.num_hidden_layers)]
        self.final_norm = _norm(config, make)

    def rows(self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None) -> Rows:
        config = self.config
        x, back_embeddings = self.embeddings(tokens.words, rng)  # [n,m]
        turns = {
            kind: rotation(tokens.positions, frequencies(config.head_dim, said["rope_theta"]), x.real.dtype)
            for kind, said in config.rope_parameters.items()
        }
        h, back_layers = self.through(
            self.layers, x, back_embeddings, tokens, below_is_trained=is_trained(self.embeddings), read=read,
            cache=cache, rng=rng, own=lambda index: {"turn": turns[config.layer_types[index]]},
        )  # fmt: skip
        h, back_norm = self.final_norm(h)  # [k,m]
        return h, lambda dh: back_layers(back_norm(dh))

    def check_padding(self, padding: Padding, length: int) -> None:
        """As LlamaModel's: where a window hides keys, rows must be columns."""
        if any(layer.attn.rule(length - 1)[0] > 0 for layer in self.layers):
            padding.refuse_gaps("a window of attention counts them")


class ModernBertPredictionHead(Module):
    """z = LN(a(W h)).    h, z [n,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.dense: Module = _out(config, make).linear(config.hidden_size, config.hidden_size, config.classifier_bias)
        self.norm, self.act = _norm(config, make), ACTIVATIONS[config.classifier_activation]

    def forward(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.dense, rng=rng), self.act, self.norm)(h)


class _Classifier(Headed):
    """The files have a layer `head`, which stands in the place of the hook of that name; `logits` goes on from it."""

    def add_head(self, config: Any, make: Factory) -> None:
        vars(self)["head"] = ModernBertPredictionHead(config, make)
        self.drop = Dropout(config.classifier_dropout)
        final = Factory(make.rng, make.dtype, config.hidden_size**-0.5)
        self.classifier: Module = final.linear(config.hidden_size, self.num_logits(config))

    def logits(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(*(partial(layer, rng=rng) for layer in (self.head, self.drop, self.classifier)))(h)


class ModernBertForSequenceClassification(_Classifier, ForSequenceClassification):
    body_class = ModernBertModel
    may_lack = ("head.", "classifier.")

    def scores(self, tokens: Tokens, rng: Rng = None) -> tuple[Array, Back]:
        if self.config.classifier_pooling == "cls":
            return super().scores(tokens, rng)
        h, back_body = self.body.read_rows(tokens, rng)  # [n,m]
        mean, back_mean = mean_of_sequences(h, tokens.packing)  # [b,m]
        logits, back_logits = self.logits(mean, rng)  # [b,v]
        return logits, lambda dlogits: back_body(back_mean(back_logits(dlogits)))


class ModernBertForMultipleChoice(ForMultipleChoice, ModernBertForSequenceClassification):
    body_class = ModernBertModel


class ModernBertForTokenClassification(_Classifier, ForTokenClassification):
    body_class = ModernBertModel
    may_lack = ("head.", "classifier.")


class ModernBertForMaskedLM(ForMaskedLM):
    """The token embedding projects the rows to the vocabulary, unless they are not tied, with a bias of its own. The
    layer `head` stands in the place of the hook of that name."""

    body_class = ModernBertModel
    may_lack = ("head.", "decoder.")
    output_embeddings = "decoder"

    def add_head(self, config: Any, make: Factory) -> None:
        vars(self)["head"] = ModernBertPredictionHead(config, make)
        bias = Parameter(np.zeros(config.vocab_size, dtype=make.dtype)) if config.decoder_bias else None
        self.decoder: Module = projection(self.body.embedding(), config.tie_word_embeddings, _out(config, make), bias)


class ModernBertForQuestionAnswering(_Classifier, ForQuestionAnswering):
    body_class = ModernBertModel
    head_name = "classifier"
    may_lack = ("head.", "classifier.")
