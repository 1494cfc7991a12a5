"""A DeBERTa's `config.json`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from npora.models.families.bert import BertLikeConfig

TERMS = ("c2p", "p2c")


@dataclass(kw_only=True)
class DebertaV2Config(BertLikeConfig):
    """A DeBERTa's `config.json`, with transformers' defaults, which are none of a checkpoint's.

    relative_attention : whether scores see distances
    pos_att_type : by which terms: "c2p" (contents ask distances), "p2c" (distances ask contents), joined by "|" or in a
        list. They count in the scale of the scores even where relative_attention is False
    position_buckets : how many buckets either direction has; each distance has its own where this is below 1
    max_relative_positions : from which distance on all are one; max_position_embeddings where this is below 1
    share_att_key : whether distances are projected as contents are
    norm_rel_ebd : "layer_norm" or "none", of the embeddings of distances
    position_biased_input : whether positions are added to the input too. Without them a text may be of any length
    embedding_size : the width of the embeddings, from which a projection leads to hidden_size where it is another
    legacy : which head a masked language model has: its own projection, tied as a rule, or the embeddings for good

    deberta-v3-base's own file says relative_attention, 256 buckets, shared keys, "p2c|c2p", a norm, and no positions.
    """

    model_type = "deberta-v2"
    fixed: ClassVar = {"conv_kernel_size": 0}
    sizes = (*BertLikeConfig.sizes, "embedding_size")
    activations = ("hidden_act", "pooler_hidden_act")

    vocab_size: int = 128100
    hidden_size: int = 1536
    num_hidden_layers: int = 24
    num_attention_heads: int = 24
    intermediate_size: int = 6144
    type_vocab_size: int = 0
    layer_norm_eps: float = 1e-7
    relative_attention: bool = False
    max_relative_positions: int = -1
    position_buckets: int = -1
    share_att_key: bool = False
    norm_rel_ebd: str = "none"
    position_biased_input: bool = True
    pos_att_type: str | list[str] | None = None
    embedding_size: int = None  # type: ignore[assignment]  # hidden_size unless given
    pooler_dropout: float = 0.0
    pooler_hidden_act: str = "gelu"
    cls_dropout: float | None = None
    legacy: bool = True

    def __post_init__(self) -> None:
        self.embedding_size = self.hidden_size if self.embedding_size is None else self.embedding_size
        super().__post_init__()
        if self.type_vocab_size < 0:
            raise ValueError(f"config: type_vocab_size must be a whole number from 0 on; got {self.type_vocab_size}")
        if unknown := sorted(set(self._said(self.pos_att_type)) - {*TERMS}):
            raise ValueError(f"config: pos_att_type {unknown[0]!r} is not supported; only {' and '.join(TERMS)} are")
        if unknown := sorted(set(self._said(self.norm_rel_ebd)) - {"none", "layer_norm"}):
            raise ValueError(f"config: norm_rel_ebd {unknown[0]!r} is not supported; only layer_norm and none are")
        for name, only in (
            ("attention_head_size", self.hidden_size // self.num_attention_heads),
            ("pooler_hidden_size", self.hidden_size),
        ):
            if self.kept.get(name, only) != only:
                raise ValueError(f"config: {name}={self.kept[name]!r} is not supported; only {only} is, by hidden_size")
        if self.position_buckets > 0 and not 1 <= self.position_buckets // 2 < self.max_distance - 1:
            raise ValueError(
                f"config: position_buckets is {self.position_buckets}, where distances are told apart up to "
                f"{self.max_distance}: expected at least 2, and less than twice the furthest"
            )

    @staticmethod
    def _said(value: str | list[str] | None) -> list[str]:
        parts = value.lower().split("|") if isinstance(value, str) else value or []
        return [part.strip() for part in parts]

    @property
    def terms(self) -> tuple[str, ...]:
        """Those of TERMS that pos_att_type names."""
        return tuple(term for term in TERMS if term in self._said(self.pos_att_type))

    @property
    def norms_distances(self) -> bool:
        return "layer_norm" in self._said(self.norm_rel_ebd)

    @property
    def max_distance(self) -> int:
        return self.max_relative_positions if self.max_relative_positions > 0 else self.max_position_embeddings

    @property
    def span(self) -> int:
        """How many embeddings either direction has."""
        return self.position_buckets if self.position_buckets > 0 else self.max_distance

    @property
    def most_tokens(self) -> int | None:
        return super().most_tokens if self.position_biased_input else None
