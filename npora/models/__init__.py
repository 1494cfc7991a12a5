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
from npora.models.gpt2 import GPT2Config, GPT2Model
from npora.models.gpt2_heads import GPT2ForSequenceClassification, GPT2LMHeadModel
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
    "GPT2Config", "GPT2ForSequenceClassification", "GPT2LMHeadModel", "GPT2Model",
    "RobertaConfig", "RobertaForMaskedLM", "RobertaForSequenceClassification", "RobertaForTokenClassification",
    "RobertaModel",
]  # fmt: skip
