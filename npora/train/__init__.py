"""The training loop, its arguments, its checkpoints."""

from npora.train.arguments import TrainingArguments
from npora.train.trainer import EvalPrediction, PredictionOutput, Trainer, TrainOutput

__all__ = ["EvalPrediction", "PredictionOutput", "TrainOutput", "Trainer", "TrainingArguments"]
