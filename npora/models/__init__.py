"""Models, one file each, with Hugging Face's parameter names."""

from npora.models.auto import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from npora.models.bert import BertConfig, BertModel
from npora.models.bert_heads import BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification
from npora.models.distilbert import DistilBertConfig, DistilBertModel
from npora.models.distilbert_heads import (
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
)
from npora.models.roberta import (
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)

__all__ = [
    "AutoModelForMaskedLM", "AutoModelForSequenceClassification", "AutoModelForTokenClassification",
    "BertConfig", "BertForMaskedLM", "BertForSequenceClassification", "BertForTokenClassification", "BertModel",
    "DistilBertConfig", "DistilBertForMaskedLM", "DistilBertForSequenceClassification",
    "DistilBertForTokenClassification", "DistilBertModel",
    "RobertaConfig", "RobertaForMaskedLM", "RobertaForSequenceClassification", "RobertaForTokenClassification",
    "RobertaModel",
]  # fmt: skip
