"""Which evaluation was the best, and its model at the end."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from typing import Any

from npora.files.refusal import shortened
from npora.train.callbacks import Args, Control, State, TrainerCallback
from npora.train.checkpoints import load_trained

logger = logging.getLogger("npora")


def value_of(name: str, metrics: Mapping[str, Any]) -> float:
    """That of metric_for_best_model. Raises ValueError where there is none, or it is no number."""
    if name not in metrics:
        raise ValueError(f"metric_for_best_model: there is no '{name}'; there are: {', '.join(metrics)}")
    value = metrics[name]
    if not isinstance(value, int | float):
        raise ValueError(f"metric_for_best_model: '{name}' must be a number; got {shortened(value)}")
    return value


class BestModelCallback(TrainerCallback):
    """Keeps state.best_metric, of metric_for_best_model; saves what is better than ever, for save_strategy="best" and
    for load_best_model_at_end, which gives that checkpoint back at the end.

    So the best one is there, also where it was measured at another step than one that is saved anyway: before
    eval_steps have become save_steps, or when a callback asked.
    """

    def on_evaluate_all(
        self, args: Args, state: State, control: Control, *, metrics: Mapping[str, Any], **kwargs: Any
    ) -> None:
        kept = args.load_best_model_at_end or args.save_strategy == "best"
        if not state.global_step or not (kept or args.metric_for_best_model):
            return  # what there was before the first step is none of the models to choose from
        better = self.is_better(args, state, metrics)
        if better and kept:
            state.best_model_checkpoint = f"checkpoint-{state.global_step}"
            control.should_save = True

    @staticmethod
    def is_better(args: Args, state: State, metrics: Mapping[str, Any]) -> bool:
        """Whether these are better than ever, which state.best_metric then is."""
        name, greater = args.best_metric()
        value, best = value_of(name, metrics), state.best_metric
        if not math.isfinite(value):
            logger.warning("step %d: %s is %s, which is better than nothing else", state.global_step, name, value)
            return False
        if best is not None and not (value > best if greater else value < best):
            return False
        state.best_metric = value
        return True

    def on_train_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        if args.load_best_model_at_end and state.best_model_checkpoint:
            load_trained(os.path.join(args.output_dir, state.best_model_checkpoint), kwargs["model"])
