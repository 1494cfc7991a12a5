"""What a training makes smaller, where that is not the model's own loss."""

from __future__ import annotations

import math
from typing import Any, SupportsFloat

from npora.nn import Module


class Objective(Module):
    """A Module that is called like its `model`, and gives another loss of it."""

    def __init__(self, model: Module) -> None:
        self.model = model


def check_above_zero(**given: Any) -> None:
    """Raise ValueError for a number that is not above 0, or not finite."""
    for name, value in given.items():
        if not isinstance(value, SupportsFloat) or not 0 < float(value) < math.inf:
            raise ValueError(f"{name} must be a number above 0; got {value!r}")


def inner(objective: Module) -> Module:
    """The model itself, whose modules have the names that its user knows."""
    return objective.model if isinstance(objective, Objective) else objective
