"""BERT's config and its layers. Post-norm: each sublayer is LN(x + f(x))."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from npora.models.config import PretrainedConfig
from npora.models.pretrained import Factory
from npora.models.tokens import first_tokens, pick_rows
from npora.nn import Dropout, LayerNorm, Module, Packing, Padding, stack
from npora.nn.dropout import active_rng
from npora.nn.functional import ACTIVATIONS, packed_attention, tanh
from npora.nn.module import Array, Pullback

Rng = np.random.Generator | None


@dataclass(kw_only=True)
class BertConfig(PretrainedConfig):
    """A BERT's `config.json`; the defaults are bert-base's."""

    model_type = "bert"
    fixed: ClassVar = {
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    }
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
             "max_position_embeddings", "type_vocab_size")  # fmt: skip

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    classifier_dropout: float | None = None
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._divides("num_attention_heads", "hidden_size")

    @property
    def head_dropout(self) -> float:
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout


class BertSelfAttention(Module):
    """The heads of all sequences, before the output projection.    x [n,m]  →  [n,m]

    `names` are those of the three projections, which other families call otherwise.
    """

    names: ClassVar = ("query", "key", "value")

    def __init__(self, d: int, heads: int, dropout: float, make: Factory) -> None:
        for name in self.names:
            setattr(self, name, make.linear(d, d))
        self.heads, self.dropout = heads, dropout

    def forward(self, x: Array, packing: Packing, rng: Rng, read: Array | None = None) -> tuple[Array, Pullback]:
        """read : int [b], the one row of each sequence whose output is read; all unless given."""
        query, key, value = (getattr(self, name) for name in self.names)
        asking, back_pick = pick_rows(x, read)
        q, back_q = query(asking, rng)
        k, back_k = key(x, rng)
        v, back_v = value(x, rng)
        queries = packing if read is None else Packing.dense(len(read), 1)
        y, back_attention = packed_attention(
            q, k, v, self.heads, queries, packing, dropout_p=self.dropout, rng=active_rng(self, self.dropout, rng)
        )

        def backward(dy: Array) -> Array:
            dq, dk, dv, _ = back_attention(dy)
            dx: Array = back_pick(back_q(dq)) + back_k(dk) + back_v(dv)  # x feeds all three
            return dx

        return y, backward

    def idle_parameters(self) -> dict[str, slice]:
        """The key's bias adds the same to all of a query's scores, which softmax does not see."""
        key: Module = getattr(self, self.names[1])
        biases = (name for name, _ in key.named_parameters() if name.endswith("bias"))
        return {f"{self.names[1]}.{name}": slice(None) for name in biases}


class BertOutput(Module):
    """y = LN(x + dropout(W a + b)): the end of each sublayer.    a [n,i]  x [n,m]  →  y [n,m]; backward: (da, dx)"""

    def __init__(self, config: BertConfig, make: Factory, in_features: int) -> None:
        self.dense = make.linear(in_features, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, config.layer_norm_eps, dtype=make.dtype)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, a: Array, x: Array, rng: Rng) -> tuple[Array, Callable[[Array], tuple[Array, Array]]]:
        h, back_dense = self.dense(a, rng)
        h, back_dropout = self.dropout(h, rng)
        y, back_norm = self.LayerNorm(x + h)

        def backward(dy: Array) -> tuple[Array, Array]:
            dsum = back_norm(dy)
            return back_dense(back_dropout(dsum)), dsum

        return y, backward


class BertAttention(Module):
    def __init__(self, config: BertConfig, make: Factory) -> None:
        p = config.attention_probs_dropout_prob
        self.self = BertSelfAttention(config.hidden_size, config.num_attention_heads, p, make)
        self.output = BertOutput(config, make, config.hidden_size)

    def forward(self, x: Array, packing: Packing, rng: Rng, read: Array | None = None) -> tuple[Array, Pullback]:
        a, back_self = self.self(x, packing, rng, read)
        kept, back_pick = pick_rows(x, read)
        y, back_output = self.output(a, kept, rng)

        def backward(dy: Array) -> Array:
            da, dx = back_output(dy)
            total: Array = back_pick(dx) + back_self(da)  # x feeds the sum and the attention
            return total

        return y, backward


class BertIntermediate(Module):
    """f = activation(W x + b).    x [n,m]  →  f [n,f]"""

    def __init__(self, config: BertConfig, make: Factory) -> None:
        self.dense = make.linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, x: Array, rng: Rng) -> tuple[Array, Pullback]:
        f, back_dense = self.dense(x, rng)
        f, back_activation = self.activation(f)
        return f, lambda df: back_dense(back_activation(df))


class BertLayer(Module):
    def __init__(self, config: BertConfig, make: Factory) -> None:
        self.attention = BertAttention(config, make)
        self.intermediate = BertIntermediate(config, make)
        self.output = BertOutput(config, make, config.intermediate_size)

    def forward(self, x: Array, packing: Packing, rng: Rng = None, read: Array | None = None) -> tuple[Array, Pullback]:
        x, back_attention = self.attention(x, packing, rng, read)
        f, back_intermediate = self.intermediate(x, rng)
        y, back_output = self.output(f, x, rng)

        def backward(dy: Array) -> Array:
            df, dx = back_output(dy)
            dx = dx + back_intermediate(df)  # x feeds the sum and the feed-forward
            result: Array = back_attention(dx)
            return result

        return y, backward


class BertEncoder(Module):
    """x ↦ layer_L(… layer_1(x)).    x [n,m]  →  [n,m], or [b,m] where only b rows of the last layer are read"""

    def __init__(self, layers: Sequence[Module]) -> None:
        self.layer = list(layers)

    def forward(
        self,
        x: Array,
        packing: Packing,
        rng: Rng,
        below_is_trained: bool = True,
        recompute: bool = False,
        read: Array | None = None,
    ) -> tuple[Array, Callable[[Array], Array | None]]:
        if not self.layer:
            return pick_rows(x, read)
        last = len(self.layer) - 1
        return stack(
            self.layer, x, packing, rng=rng, below_is_trained=below_is_trained, recompute=recompute,
            own_keywords=lambda index: {"read": read if index == last else None},
        )  # fmt: skip


class BertPooler(Module):
    """tanh(W h₀ + b) of each sequence's first row.    h [n,m]  →  [b,m]"""

    def __init__(self, config: BertConfig, make: Factory) -> None:
        self.dense = make.linear(config.hidden_size, config.hidden_size)

    def forward(self, h: Array, padding: Padding, rng: Rng) -> tuple[Array, Pullback]:
        first, back_first = first_tokens(h, padding)  # [n,m] → [b,m]
        z, back_dense = self.dense(first, rng)
        y, back_tanh = tanh(z)
        return y, lambda dy: back_first(back_dense(back_tanh(dy)))  # [b,m] → [n,m]
