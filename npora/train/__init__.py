"""The training loop, what listens to it, its arguments, its checkpoints."""

from npora.train.arguments import TrainingArguments
from npora.train.callbacks import ExportableState, TrainerCallback, TrainerControl
from npora.train.early_stopping import EarlyStoppingCallback
from npora.train.evaluation import EvalPrediction, PredictionOutput
from npora.train.flow import DefaultFlowCallback
from npora.train.micro_batches import accumulate_gradients
from npora.train.progress import ProgressCallback
from npora.train.state import TrainerState
from npora.train.trainer import Trainer, TrainOutput

__all__ = [
    "DefaultFlowCallback", "EarlyStoppingCallback", "EvalPrediction", "ExportableState", "PredictionOutput",
    "ProgressCallback", "TrainOutput", "Trainer", "TrainerCallback", "TrainerControl", "TrainerState",
    "TrainingArguments", "accumulate_gradients",
]  # fmt: skip
