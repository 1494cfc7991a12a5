"""How far a training is."""

from __future__ import annotations

import math
from collections.abc import MutableSequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np

from npora.nn.module import Module, Parameter
from npora.nn.readable import Readable, named_tuple
from npora.train.arguments import TrainingArguments
from npora.train.log_history import LogHistory


class Step(NamedTuple):
    """What one step was.

    loss : the mean over its `items` labels, nan where there are none; one of a class that has a weight counts so often
    grad_norm : of all gradients, before clipping
    tokens : of its batches, without padding
    """

    loss: float
    grad_norm: float
    learning_rate: float
    tokens: int
    items: float

    def __repr__(self) -> str:
        return named_tuple(self)


@dataclass
class TrainerState(Readable):
    """How far a training is. Dropout and the order of the examples follow from the seed, the epoch and the step alone,
    so there is no generator's state to keep."""

    global_step: int = 0
    max_steps: int = 0
    epoch: float = 0.0
    num_input_tokens_seen: int = 0
    loss_sum: float = 0.0
    steps_without_labels: int = 0  # or without a finite loss: they add nothing to loss_sum
    best_metric: float | None = None
    best_model_checkpoint: str | None = None  # the folder's name, in output_dir
    log_history: MutableSequence[dict[str, Any]] = field(default_factory=LogHistory)

    # In a checkpoint where they say something alone.
    steps_left_out: int = 0  # of epochs that a callback stopped
    ending: dict[str, Any] | None = None  # the last Step of an epoch whose end the callbacks have not been told of
    unanswered: dict[str, Any] | None = None  # what was left to do where an evaluation was broken off
    stateful_callbacks: dict[str, Any] = field(default_factory=dict)

    # Of the run's arguments, and in no checkpoint.
    logging_steps: int = 500
    eval_steps: int = 500
    save_steps: int = 500
    train_batch_size: int | None = None
    num_train_epochs: int = 0

    # There is one process.
    is_local_process_zero: ClassVar[bool] = True
    is_world_process_zero: ClassVar[bool] = True
    is_hyper_param_search: ClassVar[bool] = False

    @property
    def best_global_step(self) -> int | None:
        return None if self.best_model_checkpoint is None else int(self.best_model_checkpoint.rpartition("-")[2])

    @property
    def place(self) -> int:
        """The number of the step that is next, where every epoch has all of its steps."""
        return self.global_step + self.steps_left_out

    def follow(self, args: TrainingArguments, examples: int) -> None:
        """Set what follows from the arguments, for a dataset of so many examples."""
        steps, self.max_steps = args.steps(examples)
        self.logging_steps, self.eval_steps, self.save_steps = (
            args.every(name, self.max_steps) for name in ("logging_steps", "eval_steps", "save_steps")
        )
        self.train_batch_size = args.per_device_train_batch_size
        self.num_train_epochs = math.ceil(self.max_steps / steps)

    def count(self, step: Step, steps_of_an_epoch: int) -> None:
        """One step more."""
        self.global_step += 1
        self.epoch = self.place / steps_of_an_epoch
        self.num_input_tokens_seen += step.tokens
        if step.items and math.isfinite(step.loss):
            self.loss_sum += step.loss
        else:
            self.steps_without_labels += 1

    def mean_loss(self) -> float:
        counted = self.global_step - self.steps_without_labels
        return self.loss_sum / counted if counted else math.nan


def step_rng(args: TrainingArguments, state: TrainerState) -> np.random.Generator:
    """What dropout draws from in the step that is next."""
    return np.random.default_rng([args.seed, 1, state.global_step])


def trainable(model: Module) -> dict[str, Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
