"""Models, one file each, with Hugging Face's parameter names."""

from npora.models.auto import AutoModelForSequenceClassification
from npora.models.bert import BertConfig, BertModel
from npora.models.bert_heads import BertForSequenceClassification
from npora.models.llama import LlamaConfig, LlamaModel
from npora.models.llama_heads import LlamaForCausalLM, LlamaForSequenceClassification

__all__ = [
    "AutoModelForSequenceClassification", "BertConfig", "BertForSequenceClassification", "BertModel",
    "LlamaConfig", "LlamaForCausalLM", "LlamaForSequenceClassification", "LlamaModel",
]  # fmt: skip
