"""The learning rate of a training, falling where its evaluations get no better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npora.optim import ReduceLROnPlateau
from npora.train.best import value_of
from npora.train.callbacks import Args, Control, ExportableState, State, TrainerCallback


class PlateauCallback(TrainerCallback, ExportableState):
    """Tells a ReduceLROnPlateau of each evaluation's metric_for_best_model. What it remembers is in checkpoints."""

    def __init__(self) -> None:
        self.plateau: ReduceLROnPlateau | None = None
        self.remembered: dict[str, Any] = {}

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        options: Any = args.lr_scheduler_kwargs or {}
        mode = "max" if args.best_metric()[1] else "min"
        self.plateau = ReduceLROnPlateau(kwargs["optimizer"], **{"mode": mode, **options})
        self.plateau.load_state_dict(self.remembered if state.global_step else {})

    def on_evaluate_all(
        self, args: Args, state: State, control: Control, *, metrics: Mapping[str, Any], **kwargs: Any
    ) -> None:
        if not state.global_step:
            return  # what there was before the first step is nothing to be better than
        assert self.plateau is not None, "an evaluation of a training that has not begun"
        self.plateau.step(value_of(args.best_metric()[0], metrics))
        self.remembered = self.plateau.state_dict()

    def state(self) -> dict[str, Any]:
        return {"args": {}, "attributes": {"remembered": self.remembered}}
