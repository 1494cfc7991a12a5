"""The optimiser that a training's arguments name, over a model's trainable parameters."""

from __future__ import annotations

from typing import Any

from npora.nn import Module
from npora.nn.module import Parameter
from npora.optim import SGD, AdamW, Optimizer
from npora.train.arguments import TrainingArguments
from npora.train.state import trainable


def make_optimizer(model: Module, args: TrainingArguments) -> Optimizer:
    groups = _groups(model, args.weight_decay)
    if args.optim == "sgd":
        return SGD(groups, args.learning_rate)
    betas = args.adam_beta1, args.adam_beta2
    return AdamW(groups, args.learning_rate, betas, args.adam_epsilon, args.weight_decay)


def _groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and norms do not decay."""
    decay: list[Parameter] = []
    keep: list[Parameter] = []
    for name, parameter in trainable(model).items():
        (keep if _is_bias_or_norm(name) else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _is_bias_or_norm(name: str) -> bool:
    parts = name.lower().split(".")
    return parts[-1] == "bias" or any("norm" in part for part in parts)
