"""The training loop, what listens to it, its arguments, its checkpoints."""

from npora.train.arguments import TrainingArguments
from npora.train.callbacks import ExportableState, TrainerCallback, TrainerControl
from npora.train.early_stopping import EarlyStoppingCallback
from npora.train.embeddings import EmbeddingTrainer
from npora.train.evaluation import EvalPrediction, PredictionOutput
from npora.train.finder import learning_rate_finder
from npora.train.flow import DefaultFlowCallback
from npora.train.micro_batches import accumulate_gradients
from npora.train.preferences import DPOTrainer, ORPOTrainer
from npora.train.progress import ProgressCallback
from npora.train.state import TrainerState
from npora.train.trainer import Trainer, TrainOutput

# What transformers has in classes of their own for encoder-decoders (predict_with_generate) is in these.
Seq2SeqTrainer = Trainer
Seq2SeqTrainingArguments = TrainingArguments

__all__ = [
    "DPOTrainer", "DefaultFlowCallback", "EarlyStoppingCallback", "EmbeddingTrainer", "EvalPrediction",
    "ExportableState", "ORPOTrainer", "PredictionOutput", "ProgressCallback", "Seq2SeqTrainer",
    "Seq2SeqTrainingArguments", "TrainOutput", "Trainer", "TrainerCallback", "TrainerControl", "TrainerState",
    "TrainingArguments", "accumulate_gradients", "learning_rate_finder",
]  # fmt: skip
