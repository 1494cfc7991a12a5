"""The end of a training that gets no better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from npora.train.best import value_of
from npora.train.callbacks import Args, Control, ExportableState, State, TrainerCallback


class EarlyStoppingCallback(TrainerCallback, ExportableState):
    """Stops a training after early_stopping_patience evaluations in a row whose metric_for_best_model was no better, by
    more than early_stopping_threshold, than the best before them.

    The model is then that of the last step, or the best one with load_best_model_at_end. How many evaluations have been
    no better is in checkpoints: a run that resumes stops where the unbroken one does.
    """

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float | None = 0.0) -> None:
        if early_stopping_patience < 1:
            raise ValueError(f"early_stopping_patience must be at least 1; got {early_stopping_patience!r}")
        if early_stopping_threshold is not None and early_stopping_threshold < 0:
            raise ValueError(f"early_stopping_threshold must not be negative; got {early_stopping_threshold!r}")
        self.early_stopping_patience = early_stopping_patience
        self.early_stopping_threshold = early_stopping_threshold or 0.0
        self.early_stopping_patience_counter = 0

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        if args.eval_strategy == "no":
            raise ValueError("EarlyStoppingCallback needs evaluations: say eval_strategy='steps' or 'epoch'")
        if args.metric_for_best_model is None and not args.load_best_model_at_end:
            raise ValueError("EarlyStoppingCallback needs metric_for_best_model, or load_best_model_at_end=True")
        if not state.global_step:
            self.early_stopping_patience_counter = 0
        self._stop_if_patience_is_over(control)

    def on_evaluate(
        self, args: Args, state: State, control: Control, *, metrics: Mapping[str, Any], **kwargs: Any
    ) -> None:
        name, greater = args.best_metric()
        if name not in metrics:  # of several datasets this is another; who keeps the best raises where none has it
            return
        value, best = value_of(name, metrics), state.best_metric
        gain = 0.0 if best is None else value - best if greater else best - value
        better = best is None or gain > self.early_stopping_threshold
        self.early_stopping_patience_counter = 0 if better else self.early_stopping_patience_counter + 1
        self._stop_if_patience_is_over(control)

    def _stop_if_patience_is_over(self, control: Control) -> None:
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True

    def state(self) -> dict[str, Any]:
        names = ("early_stopping_patience", "early_stopping_threshold")
        counter = "early_stopping_patience_counter"
        return {"args": {name: getattr(self, name) for name in names}, "attributes": {counter: getattr(self, counter)}}
