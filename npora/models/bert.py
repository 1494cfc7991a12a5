"""BERT (Devlin et al., 2018), with Hugging Face's parameter names.

Rows: tokens are `[n,m]` without padding; the packing says which rows form which sequence.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from npora.models.bert_layers import BertConfig, BertEncoder, BertLayer, BertPooler, Rng
from npora.models.outputs import BaseModelOutputWithPooling
from npora.models.pretrained import Factory, PretrainedModel
from npora.models.tokens import check_positions, first_token_rows, pack_tokens
from npora.nn import Dropout, LayerNorm, Module, Padding
from npora.nn.init import Source
from npora.nn.module import Array, is_trained

BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")  # not parameters; some files hold them


class BertEmbeddings(Module):
    """h = dropout(LN(word + type + position)).    ids, positions, types [n]  →  h [n,m]

    types is None in a family that has none.
    """

    def __init__(self, config: BertConfig, make: Factory) -> None:
        d = config.hidden_size
        self.word_embeddings = make.embedding(config.vocab_size, d, config.pad_token_id)
        self.position_embeddings = make.embedding(config.max_position_embeddings, d)
        self.token_type_embeddings = make.embedding(config.type_vocab_size, d)
        self.LayerNorm = LayerNorm(d, config.layer_norm_eps, dtype=make.dtype)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self, ids: Array, positions: Array, types: Array | None, rng: Rng
    ) -> tuple[Array, Callable[[Array], None]]:
        h, back_word = self.word_embeddings(ids)
        backs = [back_word]
        if types is not None:
            kind, back_type = self.token_type_embeddings(types)
            h, backs = h + kind, [*backs, back_type]
        position, back_position = self.position_embeddings(positions)
        backs.append(back_position)
        h, back_norm = self.LayerNorm(h + position)  # [n,m]
        h, back_dropout = self.dropout(h, rng)

        def backward(dh: Array) -> None:
            dsum = back_norm(back_dropout(dh))
            for back in backs:
                back(dsum)

        return h, backward


class BertModel(PretrainedModel):
    """The encoder, with its pooler unless `add_pooling_layer` is False.

    forward(input_ids [b,t], attention_mask [b,t], token_type_ids [b,t]) returns last_hidden_state [b,t,m], zeros at
    the padding, and pooler_output [b,m]; backward takes their two gradients, either of which may be None.
    """

    config_class = BertConfig
    base_model_prefix = "bert"
    default_target_modules = ("query", "value")
    may_lack = ("pooler.",)
    ignored = BUFFERS

    def __init__(
        self,
        config: BertConfig,
        add_pooling_layer: bool = True,
        *,
        rng: Source | int | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        make = Factory(rng, dtype, config.initializer_range)
        self.config = config
        self.embeddings = BertEmbeddings(config, make)
        self.encoder = BertEncoder([BertLayer(config, make) for _ in range(config.num_hidden_layers)])
        self.pooler = BertPooler(config, make) if add_pooling_layer else None

    def rows(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        rng: Rng = None,
        first_only: bool = False,
    ) -> tuple[Array, Padding, Callable[[Array], None]]:
        """The last hidden state as rows [n,m], the padded batch's padding, and their pullback.

        first_only : just the first row of each sequence [b,m], which is all that a classifier reads; the last layer
            then leaves out most of its work
        """
        ids, padding = pack_tokens(input_ids, attention_mask)
        types = np.zeros_like(ids) if token_type_ids is None else padding.pack(np.asarray(token_type_ids))
        positions = self.positions(np.asarray(input_ids), padding)
        h, back_embeddings = self.embeddings(ids, positions, types, rng)  # [n,m]
        trained = is_trained(self.embeddings)
        read = first_token_rows(padding) if first_only else None
        h, back_encoder = self.encoder(h, padding.packing, rng, trained, self.gradient_checkpointing, read)

        def backward(dh: Array) -> None:
            dx = back_encoder(dh)
            if dx is not None:
                back_embeddings(dx)

        return h, padding if read is None else Padding(np.ones((len(read), 1))), backward

    def pooled(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[Array, Callable[[Array], None]]:
        """The pooler's output [b,m] alone, and its pullback."""
        if self.pooler is None:
            raise RuntimeError("this BertModel has no pooler: call rows()")
        h, padding, back_rows = self.rows(input_ids, attention_mask, token_type_ids, rng, first_only=True)
        pooled, back_pooler = self.pooler(h, padding, rng)  # [b,m]
        return pooled, lambda dpooled: back_rows(back_pooler(dpooled))

    def positions(self, input_ids: Array, padding: Padding) -> Array:
        """int [n], each row's position: its column in the padded batch [b,t]."""
        check_positions(padding.positions, self.config.max_position_embeddings)
        return padding.positions

    def forward(
        self,
        input_ids: npt.ArrayLike,
        attention_mask: npt.ArrayLike | None = None,
        token_type_ids: npt.ArrayLike | None = None,
        rng: Rng = None,
    ) -> tuple[BaseModelOutputWithPooling, Callable[..., None]]:
        if self.pooler is None:
            raise RuntimeError("this BertModel has no pooler: call rows()")
        h, padding, back_rows = self.rows(input_ids, attention_mask, token_type_ids, rng)
        pooled, back_pooler = self.pooler(h, padding, rng)  # [b,m]

        def backward(dhidden: Array | None = None, dpooled: Array | None = None) -> None:
            dh = np.zeros_like(h) if dhidden is None else padding.pack(dhidden)
            if dpooled is not None:
                dh = dh + back_pooler(dpooled)
            back_rows(dh)

        return BaseModelOutputWithPooling(padding.unpack(h), pooled), backward
