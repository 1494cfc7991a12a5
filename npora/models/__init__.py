"""Models, one file each, with Hugging Face's parameter names."""

from npora.models.auto import AutoModelForCausalLM, AutoModelForSequenceClassification
from npora.models.bert import BertConfig, BertModel
from npora.models.bert_heads import BertForSequenceClassification
from npora.models.gpt2 import GPT2Config, GPT2Model
from npora.models.gpt2_heads import GPT2ForSequenceClassification, GPT2LMHeadModel

__all__ = [
    "AutoModelForCausalLM", "AutoModelForSequenceClassification", "BertConfig", "BertForSequenceClassification",
    "BertModel", "GPT2Config", "GPT2ForSequenceClassification", "GPT2LMHeadModel", "GPT2Model",
]  # fmt: skip
