"""LoRA fine-tuning in pure NumPy, with every backward pass derived by hand."""

from npora.check import gradcheck
from npora.data import (
    AutoTokenizer,
    ByteTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
)
from npora.lora import LoraConfig, PeftModel, TaskType, get_peft_model
from npora.machine.threads import get_num_threads, set_num_threads
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
    "AutoModelForTokenClassification", "AutoTokenizer", "ByteTokenizer", "DataCollatorForLanguageModeling",
    "DataCollatorForSeq2Seq", "DataCollatorForTokenClassification", "DataCollatorWithPadding", "LoraConfig",
    "PeftModel", "TaskType", "Trainer", "TrainingArguments", "get_num_threads", "get_peft_model", "gradcheck",
    "no_grad", "set_num_threads",
]  # fmt: skip
