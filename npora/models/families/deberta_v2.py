"""DeBERTa v2 and v3 (He et al., 2020, 2021): BERT whose scores see how far apart tokens are, by their contents."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from npora.models.body import Back, Rng, Rows
from npora.models.families.bert import (
    BertEmbeddings,
    BertEncoder,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertModel,
    BertTransform,
)
from npora.models.families.bert_layers import BertLayer, BertOutput
from npora.models.families.deberta_v2_attention import DisentangledSelfAttention, Distances
from npora.models.families.deberta_v2_config import DebertaV2Config
from npora.models.multiple_choice import ForMultipleChoice
from npora.models.outputs import SequenceClassifierOutput
from npora.models.pretrained import Factory
from npora.models.relative import log_buckets
from npora.models.tasks import ForSequenceClassification, ScoredTokens, projection
from npora.models.tokens import Tokens, summed
from npora.nn import Cache, Dropout, Embedding, LayerNorm, Module, Packing, Padding, Parameter
from npora.nn.functional import ACTIVATIONS
from npora.nn.init import Source
from npora.nn.module import Array, Pullback, is_trained
from npora.nn.residual import Shared, chain, residual
from npora.nn.view import View


class DebertaV2Embeddings(BertEmbeddings):
    """h = dropout(LN(W (word + position + type))), with position, type and W where the config has them: W where the
    embeddings are narrower than the layers.    positions, types int [n]  →  h [n,m]"""

    position_embeddings: Any = None
    token_type_embeddings: Any = None
    embed_proj: Module | None = None

    def __init__(self, config: Any, make: Factory) -> None:
        e, m = config.embedding_size, config.hidden_size
        self.word_embeddings = make.embedding(config.vocab_size, e, config.pad_token_id)
        if config.position_biased_input:
            self.position_embeddings = make.embedding(config.max_position_embeddings, e)
        if config.type_vocab_size > 0:
            self.token_type_embeddings = make.embedding(config.type_vocab_size, e)
        if e != m:
            self.embed_proj = make.linear(e, m, bias=False)
        self.LayerNorm = LayerNorm(m, config.layer_norm_eps, dtype=make.dtype)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, words: Array | Shared, positions: Array, types: Array, rng: Rng = None) -> tuple[Array, Back]:
        tables = (self.position_embeddings, positions), (self.token_type_embeddings, types)
        x, back_sum = summed(words, self.word_embeddings, *(each for each in tables if each[0] is not None))
        project = [] if self.embed_proj is None else [partial(self.embed_proj, rng=rng)]
        h, back_norm = chain(*project, self.LayerNorm, partial(self.dropout, rng=rng))(x)  # [n,m]
        return h, lambda dh: back_sum(back_norm(dh))


class DebertaV2Attention(Module):
    """y = LN(x + output(heads(x))).    x [n,m]  →  y [k,m], of the rows that are read"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.self = DisentangledSelfAttention(config, make)
        self.output = BertOutput(config, make, config.hidden_size)

    def forward(self, x: Array, view: View, distances: Distances | None, rng: Rng = None) -> tuple[Array, Pullback]:
        heads = partial(self.self, view=view, distances=distances, rng=rng)
        attend = chain(heads, partial(self.output, rng=rng))
        return chain(partial(residual, attend, view=view), self.output.LayerNorm)(x)


class DebertaV2Layer(BertLayer):
    attention_class = DebertaV2Attention


class DebertaV2Encoder(BertEncoder):
    """The layers, and the embeddings of distances that they share, behind a norm where the config says so."""

    rel_embeddings: Module | None = None
    LayerNorm: Module | None = None

    def __init__(self, config: Any, make: Factory, layers: list[Module]) -> None:
        super().__init__(layers)
        if config.relative_attention:
            self.rel_embeddings = make.embedding(2 * config.span, config.hidden_size)
        if config.norms_distances:
            self.LayerNorm = LayerNorm(config.hidden_size, config.layer_norm_eps, dtype=make.dtype)
        self.buckets, self.max_distance, self.span = config.position_buckets, config.max_distance, config.span
        self.terms = config.terms

    def distances(self, packing: Packing) -> tuple[Distances | None, Callable[[], None]]:
        """Those within the longest sequence, embedded; backward, called behind the layers', takes to the table what
        they have given back. Only the rows of the table that occur are computed with."""
        if self.rel_embeddings is None:
            return None, lambda: None
        longest = int(packing.lengths.max(initial=1))
        distance = np.arange(1 - longest, longest)
        if self.buckets > 0:
            distance = log_buckets(distance, self.buckets, self.max_distance)
        occurring, bucket = np.unique((distance + self.span).clip(0, 2 * self.span - 1), return_inverse=True)
        norm = [] if self.LayerNorm is None else [self.LayerNorm]
        rows, back_rows = chain(self.rel_embeddings, *norm)(occurring)  # [k,m]
        shared = Shared(rows)

        def backward() -> None:
            back_rows(shared.gradient())

        return Distances(shared, bucket), backward

    def idle_parameters(self) -> dict[str, slice]:
        """What no score reads; and the norm's bias, which adds the same to all scores of a query, unless distances ask
        contents."""
        if self.rel_embeddings is not None and "p2c" in self.terms:
            return {}
        only = ("LayerNorm.bias",) if self.rel_embeddings is not None and self.terms else ("LayerNorm.", "rel_embed")
        return {name: slice(None) for name, _ in self.named_parameters() if name.startswith(only)}

    def tables(self) -> list[Module]:
        return [module for module in (self.rel_embeddings, self.LayerNorm) if module is not None]


class DebertaV2Model(BertModel):
    """The encoder, without a pooler. Inputs are BertModel's; where type_vocab_size is 0, token_type_ids may be given
    and say nothing, as in transformers.

    A query's distance from a key is what lies between them in rows: padding on either side of a text changes nothing.
    """

    config_class = DebertaV2Config
    base_model_prefix = "deberta"
    default_target_modules = ("query_proj", "value_proj")
    may_lack = ()
    embeddings_class = DebertaV2Embeddings
    layer_class = DebertaV2Layer

    def __init__(self, config: Any, *, rng: Source | int | None = None, dtype: npt.DTypeLike = np.float32) -> None:
        make = Factory(rng, dtype, config.initializer_range)
        super().__init__(config, add_pooling_layer=False, rng=make.rng, dtype=dtype)
        self.encoder: DebertaV2Encoder = DebertaV2Encoder(config, make, self.encoder.layer)

    def check_padding(self, padding: Padding, length: int) -> None:
        if self.config.relative_attention:
            padding.refuse_gaps("DeBERTa sees distances")

    def positions(self, tokens: Tokens) -> Array:
        """int [n], as BertModel's where there are positions to learn."""
        if self.config.position_biased_input:
            return super().positions(tokens)
        if tokens.position_ids is not None:
            raise ValueError(
                "position_ids were given, and this DeBERTa has no table of positions (position_biased_input is False): "
                "leave them out"
            )
        return tokens.positions

    def rows(self, tokens: Tokens, rng: Rng = None, read: Array | None = None, cache: Cache | None = None) -> Rows:
        x, back_embeddings = self.embed(tokens, rng)  # [n,m]
        distances, back_distances = self.encoder.distances(tokens.packing)

        def below(dx: Array) -> None:
            back_distances()
            back_embeddings(dx)

        return self.through(
            self.encoder.layer, x, below, tokens, below_is_trained=is_trained(self.embeddings, *self.encoder.tables()),
            read=read, cache=cache, rng=rng, own=lambda index: {"distances": distances},
        )  # [k,m]  # fmt: skip


class ContextPooler(Module):
    """y = a(W dropout(h) + b), of each sequence's first row, with a = pooler_hidden_act.    h, y [b,m]"""

    def __init__(self, config: Any, make: Factory) -> None:
        self.dense: Module = make.linear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.pooler_dropout)
        self.activation = ACTIVATIONS[config.pooler_hidden_act]

    def forward(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(partial(self.dropout, rng=rng), partial(self.dense, rng=rng), self.activation)(h)


class DebertaV2ForSequenceClassification(ForSequenceClassification):
    body_class = DebertaV2Model
    may_lack = ("classifier.", "pooler.")

    def add_head(self, config: Any, make: Factory) -> None:
        self.pooler = ContextPooler(config, make)
        self.dropout = Dropout(config.hidden_dropout_prob if config.cls_dropout is None else config.cls_dropout)
        self.classifier: Module = make.linear(config.hidden_size, self.num_logits(config))

    def task(
        self, tokens: Tokens, labels: npt.ArrayLike | None, rng: Rng = None
    ) -> tuple[SequenceClassifierOutput, Callable[..., None]]:
        """Raises ValueError for labels that mean one thing in this family of transformers, and another elsewhere."""
        every = (len(tokens.packing.lengths), self.config.num_labels)
        several = labels is not None and np.asarray(labels).shape == every
        if several and self.config.num_labels > 1 and self.config.problem_type is None:
            raise ValueError(
                "labels are a number for each text and class, and the config has no problem_type: transformers takes "
                "them as shares that sum to 1 in DeBERTa, and elsewhere as yes or no: say problem_type="
                "'multi_label_classification' for the latter; the former is not supported"
            )
        return super().task(tokens, labels, rng)

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return chain(*(partial(layer, rng=rng) for layer in (self.pooler, self.dropout, self.classifier)))(h)


class DebertaV2ForMultipleChoice(ForMultipleChoice, DebertaV2ForSequenceClassification):
    body_class = DebertaV2Model


class DebertaV2ForTokenClassification(ScoredTokens):
    body_class = DebertaV2Model
    head_name = "classifier"


class DebertaV2ForQuestionAnswering(BertForQuestionAnswering):
    body_class = DebertaV2Model
    body_options: ClassVar = {}


class DebertaV2ForMaskedLM(BertForMaskedLM):
    """With BERT's head where `config.legacy`, else with that of the files of DeBERTa v3."""

    body_class = DebertaV2Model
    body_options: ClassVar = {}
    may_lack = ("cls.", "lm_predictions.")

    def add_head(self, config: Any, make: Factory) -> None:
        if config.legacy:
            super().add_head(config, make)
        elif config.embedding_size != config.hidden_size:
            raise ValueError(
                f"config: legacy=False projects to embeddings as wide as the layers; embedding_size is "
                f"{config.embedding_size}, hidden_size {config.hidden_size}: say legacy=True"
            )
        else:
            self.output_embeddings = "lm_predictions.lm_head.decoder"  # type: ignore[misc]  # of this one
            self.lm_predictions = DebertaV2OnlyMLMHead(config, make, self.body.embedding())

    def head(self, h: Array, rng: Rng = None) -> tuple[Array, Pullback]:
        return super().head(h, rng) if self.config.legacy else self.lm_predictions.lm_head(h, rng)

    def idle_parameters(self) -> dict[str, slice]:
        return super().idle_parameters() if self.config.legacy else {}


class DebertaV2OnlyMLMHead(Module):
    def __init__(self, config: Any, make: Factory, embedding: Embedding) -> None:
        self.lm_head = DebertaV2LMHead(config, make, embedding)


class DebertaV2LMHead(BertTransform):
    """BERT's transform, beside the projection by the token embedding, tied whatever a config says."""

    def __init__(self, config: Any, make: Factory, embedding: Embedding) -> None:
        super().__init__(config, make)
        self.bias = Parameter(np.zeros(config.vocab_size, dtype=make.dtype))
        self.decoder: Module = projection(embedding, True, make, self.bias)
