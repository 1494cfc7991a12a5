"""What a training makes smaller, where that is not the model's own loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, SupportsFloat

from npora.nn import Module
from npora.train.arguments import TrainingArguments


class Objective(Module):
    """A Module that is called like its `model`, and gives another loss of it."""

    def __init__(self, model: Module) -> None:
        self.model = model


def check_above_zero(**given: Any) -> None:
    """Raise ValueError for a number that is not above 0, or not finite."""
    for name, value in given.items():
        if not isinstance(value, SupportsFloat) or not 0 < float(value) < math.inf:
            raise ValueError(f"{name} must be a number above 0; got {value!r}")


def refuse_another_loss(trainer: Any, args: TrainingArguments | None, keywords: Mapping[str, Any]) -> None:
    """Raise ValueError where a trainer whose loss is its own is given, or told of, another one."""
    smoothed = args is not None and (args.label_smoothing_factor or args.class_weights)
    if smoothed or keywords.get("compute_loss_func") is not None:
        raise ValueError(
            f"{type(trainer).__name__} has a loss of its own: leave out compute_loss_func, label_smoothing_factor and "
            "class_weights"
        )


def inner(objective: Module) -> Module:
    """The model itself, whose modules have the names that its user knows."""
    return objective.model if isinstance(objective, Objective) else objective
