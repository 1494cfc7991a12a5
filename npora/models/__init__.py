"""Models, one file each, with Hugging Face's parameter names."""

from npora.models.auto import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from npora.models.bert import BertModel
from npora.models.bert_heads import BertForMaskedLM, BertForSequenceClassification, BertForTokenClassification
from npora.models.bert_layers import BertConfig
from npora.models.differences import DifferenceWarning
from npora.models.distilbert import DistilBertConfig, DistilBertModel
from npora.models.distilbert_heads import (
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
)
from npora.models.gpt2 import GPT2Config, GPT2Model
from npora.models.gpt2_heads import GPT2ForSequenceClassification, GPT2LMHeadModel
from npora.models.llama import LlamaConfig, LlamaModel
from npora.models.llama_heads import LlamaForCausalLM, LlamaForSequenceClassification
from npora.models.roberta import (
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaForTokenClassification,
    RobertaModel,
)
from npora.models.t5_config import T5Config
from npora.models.t5_heads import T5EncoderModel, T5ForConditionalGeneration, T5ForSequenceClassification

__all__ = [
    "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM", "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification", "BertConfig", "BertForMaskedLM", "BertForSequenceClassification",
    "BertForTokenClassification", "BertModel", "DifferenceWarning", "DistilBertConfig", "DistilBertForMaskedLM",
    "DistilBertForSequenceClassification", "DistilBertForTokenClassification", "DistilBertModel", "GPT2Config",
    "GPT2ForSequenceClassification", "GPT2LMHeadModel", "GPT2Model", "LlamaConfig", "LlamaForCausalLM",
    "LlamaForSequenceClassification", "LlamaModel", "RobertaConfig", "RobertaForMaskedLM",
    "RobertaForSequenceClassification", "RobertaForTokenClassification", "RobertaModel", "T5Config", "T5EncoderModel",
    "T5ForConditionalGeneration", "T5ForSequenceClassification",
]  # fmt: skip
