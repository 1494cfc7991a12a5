"""Models, one file each, with Hugging Face's parameter names."""

from npora.models.auto import AutoModelForSeq2SeqLM, AutoModelForSequenceClassification
from npora.models.bert import BertConfig, BertModel
from npora.models.bert_heads import BertForSequenceClassification
from npora.models.t5_config import T5Config
from npora.models.t5_heads import T5EncoderModel, T5ForConditionalGeneration, T5ForSequenceClassification

__all__ = [
    "AutoModelForSeq2SeqLM", "AutoModelForSequenceClassification", "BertConfig", "BertForSequenceClassification",
    "BertModel", "T5Config", "T5EncoderModel", "T5ForConditionalGeneration", "T5ForSequenceClassification",
]  # fmt: skip
