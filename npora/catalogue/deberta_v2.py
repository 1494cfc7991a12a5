"""DeBERTa: its pooler and the whole, with both terms, either, and neither."""

from __future__ import annotations

from typing import Any

from npora.catalogue.batches import WORDS, encoder, of_sentences, of_tokens, part
from npora.catalogue.row import Row
from npora.models.families.deberta_v2 import (
    ContextPooler,
    DebertaV2ForMaskedLM,
    DebertaV2ForSequenceClassification,
    DebertaV2ForTokenClassification,
    DebertaV2Model,
)
from npora.models.families.deberta_v2_config import DebertaV2Config


def config(**fields: Any) -> DebertaV2Config:
    return DebertaV2Config(
        **{
            "vocab_size": WORDS, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 5, "max_position_embeddings": 7, "num_labels": 3, "relative_attention": True,
            "position_buckets": 4, "pos_att_type": "p2c|c2p", "pooler_dropout": 0.2, **fields,
        }
    )  # fmt: skip


SHARED = config(share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False)  # as DeBERTa v3
NARROW = config(embedding_size=4, type_vocab_size=2, num_hidden_layers=1)

ROWS = [
    Row("ContextPooler", part(ContextPooler, SHARED, (5, 6))),
    Row("DebertaV2Model", encoder(DebertaV2Model, NARROW)),
    Row("deberta-v2", encoder(DebertaV2ForSequenceClassification, SHARED, of_sentences)),
    Row("lora_deberta-v2", encoder(DebertaV2ForSequenceClassification, SHARED, of_sentences, adapted=True)),
    Row(
        "deberta-v2, contents ask distances",
        encoder(DebertaV2ForTokenClassification, config(pos_att_type="c2p", num_hidden_layers=1), of_tokens(3)),
    ),
    Row("DebertaV2ForMaskedLM", encoder(DebertaV2ForMaskedLM, NARROW, of_tokens(WORDS)), frozen_rounds=True),
]
