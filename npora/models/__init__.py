"""Models, one file each, with Hugging Face's parameter names."""

from npora.models.auto import AutoModelForSequenceClassification
from npora.models.bert import BertForSequenceClassification, BertModel
from npora.models.config import BertConfig

__all__ = ["AutoModelForSequenceClassification", "BertConfig", "BertForSequenceClassification", "BertModel"]
