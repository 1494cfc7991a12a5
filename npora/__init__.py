"""LoRA fine-tuning in pure NumPy, with every backward pass derived by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from npora.auto_peft import (
    AutoPeftModelForCausalLM,
    AutoPeftModelForFeatureExtraction,
    AutoPeftModelForQuestionAnswering,
    AutoPeftModelForSeq2SeqLM,
    AutoPeftModelForSequenceClassification,
    AutoPeftModelForTokenClassification,
)
from npora.data import (
    AutoTokenizer,
    ByteTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
)
from npora.lora import (
    AdaLoraConfig,
    CordaConfig,
    EvaConfig,
    FourierFTConfig,
    HiraConfig,
    HRAConfig,
    IA3Config,
    LNTuningConfig,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    LoraGAConfig,
    MissConfig,
    OFTConfig,
    PeftModel,
    RoadConfig,
    TaskType,
    TrainableTokensConfig,
    VeraConfig,
    get_peft_model,
    initialize_lora_eva_weights,
    preprocess_corda,
    preprocess_loraga,
)
from npora.machine.threads import get_num_threads, set_num_threads
from npora.models import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSentenceEmbedding,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from npora.nn import no_grad
from npora.train import (
    DefaultFlowCallback,
    DPOTrainer,
    EarlyStoppingCallback,
    EmbeddingTrainer,
    ORPOTrainer,
    ProgressCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    learning_rate_finder,
)

if TYPE_CHECKING:
    from npora.check import gradcheck

__version__ = "0.1.0"
__all__ = [
    "AdaLoraConfig", "AutoModelForCausalLM", "AutoModelForImageClassification", "AutoModelForMaskedLM",
    "AutoModelForMultipleChoice", "AutoModelForQuestionAnswering", "AutoModelForSentenceEmbedding",
    "AutoModelForSeq2SeqLM", "AutoModelForSequenceClassification", "AutoModelForTokenClassification",
    "AutoPeftModelForCausalLM", "AutoPeftModelForFeatureExtraction", "AutoPeftModelForQuestionAnswering",
    "AutoPeftModelForSeq2SeqLM", "AutoPeftModelForSequenceClassification", "AutoPeftModelForTokenClassification",
    "AutoTokenizer", "ByteTokenizer", "CordaConfig", "DPOTrainer", "DataCollatorForLanguageModeling",
    "DataCollatorForSeq2Seq", "DataCollatorForTokenClassification", "DataCollatorWithPadding", "DefaultFlowCallback",
    "EarlyStoppingCallback", "EmbeddingTrainer", "EvaConfig", "FourierFTConfig", "HRAConfig", "HiraConfig",
    "IA3Config", "LNTuningConfig", "LoHaConfig", "LoKrConfig", "LoraConfig", "LoraGAConfig", "MissConfig",
    "OFTConfig", "ORPOTrainer", "PeftModel", "ProgressCallback", "RoadConfig", "Seq2SeqTrainer",
    "Seq2SeqTrainingArguments", "TaskType", "TrainableTokensConfig", "Trainer", "TrainerCallback", "TrainerControl",
    "TrainerState", "TrainingArguments", "VeraConfig", "get_num_threads", "get_peft_model", "gradcheck",
    "initialize_lora_eva_weights", "learning_rate_finder", "no_grad", "preprocess_corda", "preprocess_loraga",
    "set_num_threads",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """The gradient check is imported when it is asked for: training needs none of it."""
    if name != "gradcheck":
        raise AttributeError(f"npora has no {name!r}; its names are: {', '.join(__all__)}")
    from npora.check import gradcheck

    return gradcheck
