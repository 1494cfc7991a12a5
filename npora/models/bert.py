"""BERT (Devlin et al., 2018), with Hugging Face's parameter names.

Rows: tokens are `[n,d]` without padding; the packing says which rows form which sequence. Post-norm: each sublayer is
LN(x + f(x)).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from npora.models.config import BertConfig
from npora.models.outputs import BaseModelOutputWithPooling, SequenceClassifierOutput
from npora.nn import Dropout, Embedding, LayerNorm, Linear, Module, Packing, cross_entropy, init, mse_loss
from npora.nn.dropout import active_rng
from npora.nn.functional import ACTIVATIONS, packed_attention, tanh
from npora.nn.init import Source
from npora.nn.module import Array, Pullback

Rng = np.random.Generator | None


class _Make:
    """Makes the layers of one model: weights N(0, initializer_range²), biases 0."""

    def __init__(self, config: BertConfig, rng: Source, dtype: npt.DTypeLike) -> None:
        self.config, self.rng, self.dtype = config, rng, dtype

    def linear(self, i: int, o: int) -> Linear:
        layer = Linear(i, o, rng=init.Blank(), dtype=self.dtype)
        layer.weight.data = init.normal(self.rng, (o, i), self.config.initializer_range, self.dtype)
        return layer

    def embedding(self, v: int, padding_idx: int | None = None) -> Embedding:
        d = self.config.hidden_size
        layer = Embedding(v, d, padding_idx, rng=init.Blank(), dtype=self.dtype)
        layer.weight.data = init.normal(self.rng, (v, d), self.config.initializer_range, self.dtype)
        return layer

    def norm(self) -> LayerNorm:
        return LayerNorm(self.config.hidden_size, self.config.layer_norm_eps, dtype=self.dtype)

    def dropout(self) -> Dropout:
        return Dropout(self.config.hidden_dropout_prob)


class BertEmbeddings(Module):
    """h = dropout(LN(word + type + position)).    ids, types, positions [n]  →  h [n,d]"""

    def __init__(self, make: _Make) -> None:
        config = make.config
        self.word_embeddings = make.embedding(config.vocab_size, config.pad_token_id)
        self.position_embeddings = make.embedding(config.max_position_embeddings)
        self.token_type_embeddings = make.embedding(config.type_vocab_size)
        self.LayerNorm = make.norm()
        self.dropout = make.dropout()

    def forward(self, ids: Array, types: Array, positions: Array, rng: Rng) -> tuple[Array, Callable[[Array], None]]:
        word, back_word = self.word_embeddings(ids)
        kind, back_type = self.token_type_embeddings(types)
        position, back_position = self.position_embeddings(positions)
        h, back_norm = self.LayerNorm(word + kind + position)  # [n,d]
        h, back_dropout = self.dropout(h, rng)

        def backward(dh: Array) -> None:
            dsum = back_norm(back_dropout(dh))
            back_word(dsum)
            back_type(dsum)
            back_position(dsum)

        return h, backward


class BertSelfAttention(Module):
    """The heads of all sequences, before the output projection.    x [n,d]  →  [n,d]"""

    def __init__(self, make: _Make) -> None:
        config, d = make.config, make.config.hidden_size
        self.query, self.key, self.value = make.linear(d, d), make.linear(d, d), make.linear(d, d)
        self.heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob

    def forward(self, x: Array, packing: Packing, rng: Rng) -> tuple[Array, Pullback]:
        q, back_q = self.query(x, rng)
        k, back_k = self.key(x, rng)
        v, back_v = self.value(x, rng)
        y, back_attention = packed_attention(
            q, k, v, self.heads, packing, dropout_p=self.dropout, rng=active_rng(self, self.dropout, rng)
        )

        def backward(dy: Array) -> Array:
            dq, dk, dv, _ = back_attention(dy)
            dx: Array = back_q(dq) + back_k(dk) + back_v(dv)  # x feeds all three
            return dx

        return y, backward

    def idle_parameters(self) -> list[str]:
        """The key's bias adds the same to all of a query's scores, which softmax does not see."""
        return [f"key.{name}" for name, _ in self.key.named_parameters() if name.endswith("bias")]


class BertOutput(Module):
    """y = LN(x + dropout(W a + b)): the end of each sublayer.    a [n,i]  x [n,d]  →  y [n,d]; backward: (da, dx)"""

    def __init__(self, make: _Make, in_features: int) -> None:
        self.dense = make.linear(in_features, make.config.hidden_size)
        self.LayerNorm = make.norm()
        self.dropout = make.dropout()

    def forward(self, a: Array, x: Array, rng: Rng) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
        h, back_dense = self.dense(a, rng)
        h, back_dropout = self.dropout(h, rng)
        y, back_norm = self.LayerNorm(x + h)

        def backward(dy: Array) -> tuple[Array, Array]:
            dsum = back_norm(dy)
            return back_dense(back_dropout(dsum)), dsum

        return y, backward


class BertAttention(Module):
    def __init__(self, make: _Make) -> None:
        self.self = BertSelfAttention(make)
        self.output = BertOutput(make, make.config.hidden_size)

    def forward(self, x: Array, packing: Packing, rng: Rng) -> tuple[Array, Pullback]:
        a, back_self = self.self(x, packing, rng)
        y, back_output = self.output(a, x, rng)

        def backward(dy: Array) -> Array:
            da, dx = back_output(dy)
            total: Array = dx + back_self(da)  # x feeds the sum and the attention
            return total

        return y, backward


class BertIntermediate(Module):
    """f = activation(W x + b).    x [n,d]  →  f [n,f]"""

    def __init__(self, make: _Make) -> None:
        self.dense = make.linear(make.config.hidden_size, make.config.intermediate_size)
        self.activation = ACTIVATIONS[make.config.hidden_act]

    def forward(self, x: Array, rng: Rng) -> tuple[Array, Pullback]:
        f, back_dense = self.dense(x, rng)
        f, back_activation = self.activation(f)
        return f, lambda df: back_dense(back_activation(df))


class BertLayer(Module):
    def __init__(self, make: _Make) -> None:
        self.attention = BertAttention(make)
        self.intermediate = BertIntermediate(make)
        self.output = BertOutput(make, make.config.intermediate_size)

    def forward(self, x: Array, packing: Packing, rng: Rng = None) -> tuple[Array, Pullback]:
        x, back_attention = self.attention(x, packing, rng)
        f, back_intermediate = self.intermediate(x, rng)
        y, back_output = self.output(f, x, rng)

        def backward(dy: Array) -> Array:
            df, dx = back_output(dy)
            dx = dx + back_intermediate(df)  # x feeds the sum and the feed-forward
            result: Array = back_attention(dx)
            return result

        return y, backward


class BertEncoder(Module):
    def __init__(self, make: _Make) -> None:
        self.layer = [BertLayer(make) for _ in range(make.config.num_hidden_layers)]

    def forward(self, x: Array, packing: Packing, rng: Rng) -> tuple[Array, Pullback]:
        backs = []
        for layer in self.layer:
            x, back = layer(x, packing, rng)
            backs.append(back)

        def backward(dx: Array) -> Array:
            for back in reversed(backs):
                dx = back(dx)
            return dx

        return x, backward


class BertPooler(Module):
    """tanh(W h₀ + b) of each sequence's first row.    h [n,d]  →  [b,d]"""

    def __init__(self, make: _Make) -> None:
        self.dense = make.linear(make.config.hidden_size, make.config.hidden_size)

    def forward(self, h: Array, packing: Packing, rng: Rng) -> tuple[Array, Pullback]:
        first, shape = packing.first_rows(), h.shape
        z, back_dense = self.dense(h[first], rng)  # [n,d] → [b,d]
        y, back_tanh = tanh(z)

        def backward(dy: Array) -> Array:
            dh = np.zeros(shape, dtype=dy.dtype)
            dh[first] = back_dense(back_tanh(dy))  # [b,d] → [n,d]
            return dh

        return y, backward


class BertModel(Module):
    """The encoder with its pooler.

    forward(input_ids [b,t], attention_mask [b,t], token_type_ids [b,t]) returns last_hidden_state [b,t,d], zeros at
    the padding, and pooler_output [b,d]; backward takes their two gradients, either of which may be None.
    """

    default_target_modules = ("query", "value")
    name_or_path: str | None = None

    def __init__(self, config: BertConfig, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        make = _Make(config, init.default_rng(rng), dtype)
        self.config = config
        self.embeddings = BertEmbeddings(make)
        self.encoder = BertEncoder(make)
        self.pooler = BertPooler(make)

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[BaseModelOutputWithPooling, Callable[..., None]]:
        ids = np.asarray(input_ids)
        packing = pack_tokens(ids, attention_mask, self.config.max_position_embeddings)
        types = np.zeros_like(ids) if token_type_ids is None else np.asarray(token_type_ids)
        h, back_embeddings = self.embeddings(packing.pack(ids), packing.pack(types), packing.positions, rng)  # [n,d]
        h, back_encoder = self.encoder(h, packing, rng)
        pooled, back_pooler = self.pooler(h, packing, rng)  # [b,d]

        def backward(dhidden: Array | None = None, dpooled: Array | None = None) -> None:
            dh = np.zeros_like(h) if dhidden is None else packing.pack(dhidden)
            if dpooled is not None:
                dh = dh + back_pooler(dpooled)
            back_embeddings(back_encoder(dh))

        return BaseModelOutputWithPooling(packing.unpack(h), pooled), backward


class BertForSequenceClassification(Module):
    """BERT with a linear head on the pooled first token.

    forward(input_ids [b,t], attention_mask [b,t], token_type_ids [b,t], labels [b]) returns loss and logits [b,v].
    The loss is the mean cross-entropy, or the mean squared error where num_labels is 1. With labels, backward(dloss=1)
    adds the gradient of every trainable parameter; without them, backward(dlogits) does.
    """

    default_target_modules = ("query", "value")
    name_or_path: str | None = None

    def __init__(self, config: BertConfig, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        rng = init.default_rng(rng)
        self.config = config
        self.bert = BertModel(config, rng=rng, dtype=dtype)
        p = config.classifier_dropout
        self.dropout = Dropout(config.hidden_dropout_prob if p is None else p)
        self.classifier = _Make(config, rng, dtype).linear(config.hidden_size, config.num_labels)

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[SequenceClassifierOutput, Callable[..., None]]:
        output, back_bert = self.bert(input_ids, attention_mask, token_type_ids, rng)
        pooled, back_dropout = self.dropout(output.pooler_output, rng)
        logits, back_classifier = self.classifier(pooled, rng)  # [b,v]

        def back_logits(dlogits: Array) -> None:
            back_bert(None, back_dropout(back_classifier(dlogits)))

        if labels is None:
            return SequenceClassifierOutput(None, logits), back_logits
        loss, back_loss, num_items = classification_loss(logits, np.asarray(labels))

        def backward(dloss: Any = 1.0) -> None:
            back_logits(back_loss(dloss))

        return SequenceClassifierOutput(loss, logits, num_items), backward


def pack_tokens(ids: Array, attention_mask: npt.ArrayLike | None, max_positions: int) -> Packing:
    """The packing of a padded batch of ids. Raises ValueError for a wrong shape or more positions than there are."""
    if ids.ndim != 2:
        raise ValueError(f"input_ids must be [batch, length]; got shape {ids.shape}")
    mask = np.ones(ids.shape, dtype=bool) if attention_mask is None else np.asarray(attention_mask).astype(bool)
    if mask.shape != ids.shape:
        raise ValueError(f"attention_mask has shape {mask.shape}, input_ids {ids.shape}: they must agree")
    packing = Packing(mask)
    longest = int(packing.positions.max(initial=-1)) + 1
    if longest > max_positions:
        raise ValueError(
            f"a sequence of {longest} tokens is longer than the {max_positions} positions of this model: truncate it"
        )
    return packing


def classification_loss(logits: Array, labels: Array) -> tuple[Any, Callable[..., Array], int]:
    """Cross-entropy over classes, or squared error where there is one output; and over how many labels it is a mean."""
    if logits.shape[1] == 1:
        loss, back = mse_loss(logits, labels.reshape(-1, 1))
        return loss, back, len(labels)
    loss, back = cross_entropy(logits, labels)
    return loss, back, int((labels != -100).sum())
