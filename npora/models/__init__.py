"""Models, one file each, with Hugging Face's parameter names."""

from npora.models.auto import AutoModelForSequenceClassification
from npora.models.bert import BertConfig, BertModel
from npora.models.bert_heads import BertForSequenceClassification

__all__ = ["AutoModelForSequenceClassification", "BertConfig", "BertForSequenceClassification", "BertModel"]
