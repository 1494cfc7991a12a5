"""RoBERTa and XLM-RoBERTa: the head and the whole. What it shares with BERT is BERT's rows."""

from __future__ import annotations

from typing import Any

from npora.catalogue.batches import WORDS, encoder, of_sentences, of_tokens, part
from npora.catalogue.row import Row
from npora.models.families.roberta import (
    RobertaClassificationHead,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaModel,
)
from npora.models.families.xlm_roberta import XLMRobertaConfig, XLMRobertaForSequenceClassification

SIZES: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 4,
    "max_position_embeddings": 7, "num_labels": 3,
}  # fmt: skip
CONFIG, XLM = RobertaConfig(**SIZES), XLMRobertaConfig(**SIZES)

ROWS = [
    Row("RobertaClassificationHead", part(RobertaClassificationHead, CONFIG, (5, 6))),
    Row("RobertaModel", encoder(RobertaModel, CONFIG)),
    Row("roberta", encoder(RobertaForSequenceClassification, CONFIG, of_sentences)),
    Row("lora_roberta", encoder(RobertaForSequenceClassification, CONFIG, of_sentences, adapted=True)),
    Row("RobertaForMaskedLM", encoder(RobertaForMaskedLM, CONFIG, of_tokens(WORDS)), frozen_rounds=True),
    Row("xlm_roberta", encoder(XLMRobertaForSequenceClassification, XLM, of_sentences)),
    Row("lora_xlm_roberta", encoder(XLMRobertaForSequenceClassification, XLM, of_sentences, adapted=True)),
]
