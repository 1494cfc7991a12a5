"""LoRA fine-tuning in pure NumPy, with every backward pass derived by hand."""

from npora.check import gradcheck
from npora.data import AutoTokenizer, ByteTokenizer
from npora.lora import LoraConfig, PeftModel, TaskType, get_peft_model
from npora.models import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from npora.nn import no_grad
from npora.train import Trainer, TrainingArguments

__version__ = "0.1.0"
__all__ = [
    "AutoModelForCausalLM", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM", "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification", "AutoTokenizer", "ByteTokenizer", "LoraConfig", "PeftModel", "TaskType",
    "Trainer", "TrainingArguments", "get_peft_model", "gradcheck", "no_grad",
]  # fmt: skip
