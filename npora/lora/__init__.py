"""LoRA: a frozen layer with a trained low-rank update, under PEFT's names and in PEFT's files."""

from npora.lora.attention import LoRAAttention
from npora.lora.config import LoraConfig, TaskType
from npora.lora.linear import LoRALinear
from npora.lora.model import PeftModel, get_peft_model

__all__ = ["LoRAAttention", "LoRALinear", "LoraConfig", "PeftModel", "TaskType", "get_peft_model"]
