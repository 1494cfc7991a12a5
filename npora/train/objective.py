"""What a training makes smaller, where that is not the model's own loss."""

from __future__ import annotations

from npora.nn import Module


class Objective(Module):
    """A Module that is called like its `model`, and gives another loss of it."""

    def __init__(self, model: Module) -> None:
        self.model = model


def inner(objective: Module) -> Module:
    """The model itself, whose modules have the names that its user knows."""
    return objective.model if isinstance(objective, Objective) else objective
