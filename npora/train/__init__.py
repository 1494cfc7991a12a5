"""The training loop, its arguments, its checkpoints."""

from npora.train.arguments import TrainingArguments
from npora.train.evaluation import EvalPrediction, PredictionOutput
from npora.train.micro_batches import accumulate_gradients
from npora.train.trainer import Trainer, TrainOutput

__all__ = ["EvalPrediction", "PredictionOutput", "TrainOutput", "Trainer", "TrainingArguments", "accumulate_gradients"]
