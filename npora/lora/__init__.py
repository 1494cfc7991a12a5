"""LoRA: a frozen layer with a trained low-rank update, under PEFT's names and in PEFT's files."""

from npora.lora.attention import LoRAAttention
from npora.lora.config import PeftConfig
from npora.lora.convert import convert_to_lora, save_as_lora
from npora.lora.eva_state import get_eva_state_dict
from npora.lora.folder import adapter_directory
from npora.lora.hotswap import hotswap_adapter
from npora.lora.initialize import initialize_lora_eva_weights
from npora.lora.linear import LoRALinear
from npora.lora.methods.adalora_config import AdaLoraConfig
from npora.lora.methods.fourierft import FourierFTConfig
from npora.lora.methods.hira import HiraConfig
from npora.lora.methods.hra import HRAConfig
from npora.lora.methods.ia3 import IA3Config
from npora.lora.methods.ln_tuning import LNTuningConfig
from npora.lora.methods.loha import LoHaConfig
from npora.lora.methods.lokr import LoKrConfig
from npora.lora.methods.lora_config import LoraConfig
from npora.lora.methods.miss import MissConfig
from npora.lora.methods.oft import OFTConfig
from npora.lora.methods.road import RoadConfig
from npora.lora.methods.trainable_tokens import TrainableTokensConfig
from npora.lora.methods.vera import VeraConfig
from npora.lora.model import PeftModel, get_peft_model
from npora.lora.names import PeftType, TaskType
from npora.lora.preprocess import preprocess_corda, preprocess_loraga
from npora.lora.record import read_record
from npora.lora.starts.corda import CordaConfig
from npora.lora.starts.eva import EvaConfig
from npora.lora.starts.lora_ga import LoraGAConfig
from npora.lora.status import get_layer_status, get_model_status

__all__ = [
    "AdaLoraConfig", "CordaConfig", "EvaConfig", "FourierFTConfig", "HRAConfig", "HiraConfig", "IA3Config",
    "LNTuningConfig", "LoHaConfig", "LoKrConfig", "LoRAAttention", "LoRALinear", "LoraConfig", "LoraGAConfig",
    "MissConfig", "OFTConfig", "PeftConfig", "PeftModel", "PeftType", "RoadConfig", "TaskType", "TrainableTokensConfig",
    "VeraConfig", "adapter_directory", "convert_to_lora", "get_eva_state_dict", "get_layer_status", "get_model_status",
    "get_peft_model", "hotswap_adapter", "initialize_lora_eva_weights", "preprocess_corda", "preprocess_loraga",
    "read_record", "save_as_lora",
]  # fmt: skip
