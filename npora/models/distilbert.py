"""DistilBERT (Sanh et al., 2019), with Hugging Face's parameter names.

BERT's layers without token types and without pooler. Post-norm: each sublayer is LN(x + f(x)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.bert import BUFFERS, BertEmbeddings
from npora.models.bert_layers import BertEncoder, BertSelfAttention, Rng
from npora.models.config import PretrainedConfig
from npora.models.outputs import BaseModelOutput
from npora.models.pretrained import Factory, PretrainedModel
from npora.models.tokens import check_positions, first_token_rows, pack_tokens, pick_rows
from npora.nn import Dropout, LayerNorm, Module, Packing, Padding
from npora.nn.functional import ACTIVATIONS
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained

EPS = 1e-12  # of every norm: the config has no field for it


@dataclass(kw_only=True)
class DistilBertConfig(PretrainedConfig):
    """A DistilBERT's `config.json`; the defaults are distilbert-base's.

    `sinusoidal_pos_embds` says how the position embeddings were first filled. They are in the file: it changes nothing.
    """

    model_type = "distilbert"
    aliases: ClassVar = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}
    sizes = ("vocab_size", "max_position_embeddings", "n_layers", "n_heads", "dim", "hidden_dim")
    activation_field = "activation"

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False
    n_layers: int = 6
    n_heads: int = 12
    dim: int = 768
    hidden_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    seq_classif_dropout: float = 0.2
    pad_token_id: int | None = 0
    tie_word_embeddings: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._divides("n_heads", "dim")


class DistilBertEmbeddings(BertEmbeddings):
    """h = dropout(LN(word + position)).    ids, positions [n]  →  h [n,m]"""

    def __init__(self, config: DistilBertConfig, make: Factory) -> None:
        self.word_embeddings = make.embedding(config.vocab_size, config.dim, config.pad_token_id)
        self.position_embeddings = make.embedding(config.max_position_embeddings, config.dim)
        self.LayerNorm = LayerNorm(config.dim, EPS, dtype=make.dtype)
        self.dropout = Dropout(config.dropout)


class DistilBertAttention(BertSelfAttention):
    """BERT's heads, with the output projection beside the others.    x [n,m]  →  [n,m]"""

    names = ("q_lin", "k_lin", "v_lin")

    def __init__(self, config: DistilBertConfig, make: Factory) -> None:
        super().__init__(config.dim, config.n_heads, config.attention_dropout, make)
        self.out_lin: Module = make.linear(config.dim, config.dim)

    def forward(self, x: Array, packing: Packing, rng: Rng, read: Array | None = None) -> tuple[Array, Pullback]:
        a, back_heads = super().forward(x, packing, rng, read)
        y, back_out = self.out_lin(a, rng)
        return y, lambda dy: back_heads(back_out(dy))


class DistilBertFFN(Module):
    """y = dropout(W₂ activation(W₁ x)).    x [n,m]  →  y [n,m]"""

    def __init__(self, config: DistilBertConfig, make: Factory) -> None:
        self.lin1: Module = make.linear(config.dim, config.hidden_dim)
        self.lin2: Module = make.linear(config.hidden_dim, config.dim)
        self.activation, self.dropout = ACTIVATIONS[config.activation], Dropout(config.dropout)

    def forward(self, x: Array, rng: Rng) -> tuple[Array, Pullback]:
        f, back_lin1 = self.lin1(x, rng)  # [n,f]
        f, back_activation = self.activation(f)
        y, back_lin2 = self.lin2(f, rng)  # [n,m]
        y, back_dropout = self.dropout(y, rng)
        return y, lambda dy: back_lin1(back_activation(back_lin2(back_dropout(dy))))


class DistilBertLayer(Module):
    def __init__(self, config: DistilBertConfig, make: Factory) -> None:
        self.attention = DistilBertAttention(config, make)
        self.sa_layer_norm = LayerNorm(config.dim, EPS, dtype=make.dtype)
        self.ffn = DistilBertFFN(config, make)
        self.output_layer_norm = LayerNorm(config.dim, EPS, dtype=make.dtype)

    def forward(self, x: Array, packing: Packing, rng: Rng = None, read: Array | None = None) -> tuple[Array, Pullback]:
        a, back_attention = self.attention(x, packing, rng, read)
        kept, back_pick = pick_rows(x, read)
        h, back_norm1 = self.sa_layer_norm(kept + a)
        f, back_ffn = self.ffn(h, rng)
        y, back_norm2 = self.output_layer_norm(h + f)

        def backward(dy: Array) -> Array:
            dh = back_norm2(dy)
            dx = back_norm1(dh + back_ffn(dh))  # h feeds the sum and the feed-forward
            total: Array = back_pick(dx) + back_attention(dx)  # x feeds the sum and the attention
            return total

        return y, backward


class DistilBertModel(PretrainedModel):
    """The encoder without a head.

    forward(input_ids [b,t], attention_mask [b,t]) returns last_hidden_state [b,t,m], zeros at the padding; backward
    takes its gradient.
    """

    config_class = DistilBertConfig
    base_model_prefix = "distilbert"
    default_target_modules = ("q_lin", "v_lin")
    ignored = BUFFERS

    def __init__(self, config: DistilBertConfig, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32):
        make = Factory(rng, dtype, config.initializer_range)
        self.config = config
        self.embeddings = DistilBertEmbeddings(config, make)
        self.transformer = BertEncoder([DistilBertLayer(config, make) for _ in range(config.n_layers)])

    def rows(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        rng: Rng = None,
        first_only: bool = False,
    ) -> tuple[Array, Padding, Callable[[Array], None]]:
        """The last hidden state as rows [n,m], their padding, and their pullback; as of BertModel."""
        ids, padding = pack_tokens(input_ids, attention_mask)
        check_positions(padding.positions, self.config.max_position_embeddings)
        h, back_embeddings = self.embeddings(ids, padding.positions, None, rng)  # [n,m]
        trained = is_trained(self.embeddings)
        read = first_token_rows(padding) if first_only else None
        h, back_layers = self.transformer(h, padding.packing, rng, trained, self.gradient_checkpointing, read)

        def backward(dh: Array) -> None:
            dx = back_layers(dh)
            if dx is not None:
                back_embeddings(dx)

        return h, padding if read is None else Padding(np.ones((len(read), 1))), backward

    def forward(
        self, input_ids: npt.ArrayLike, attention_mask: npt.ArrayLike | None = None, rng: Rng = None
    ) -> tuple[BaseModelOutput, Callable[[Array], None]]:
        h, padding, back_rows = self.rows(input_ids, attention_mask, rng)
        return BaseModelOutput(padding.unpack(h)), lambda dhidden: back_rows(padding.pack(dhidden))
