"""LoRA fine-tuning in pure NumPy, with every backward pass derived by hand."""

from npora.check import gradcheck
from npora.data import AutoTokenizer
from npora.lora import LoraConfig, PeftModel, get_peft_model
from npora.models import AutoModelForCausalLM, AutoModelForSequenceClassification
from npora.nn import no_grad
from npora.train import Trainer, TrainingArguments

__version__ = "0.1.0"
__all__ = [
    "AutoModelForCausalLM", "AutoModelForSequenceClassification", "AutoTokenizer", "LoraConfig", "PeftModel", "Trainer",
    "TrainingArguments", "get_peft_model", "gradcheck", "no_grad",
]  # fmt: skip
