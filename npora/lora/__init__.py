"""LoRA: a frozen layer with a trained low-rank update, under PEFT's names and in PEFT's files."""

from npora.lora.attention import LoRAAttention
from npora.lora.config import LoraConfig
from npora.lora.folder import adapter_directory, read_record
from npora.lora.linear import LoRALinear
from npora.lora.model import PeftModel, get_peft_model
from npora.lora.names import PeftType, TaskType

PeftConfig = LoraConfig  # PEFT's name for the config of any method; here there is one method

__all__ = [
    "LoRAAttention", "LoRALinear", "LoraConfig", "PeftConfig", "PeftModel", "PeftType", "TaskType", "adapter_directory",
    "get_peft_model", "read_record",
]  # fmt: skip
