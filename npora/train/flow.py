"""When a training logs, evaluates, saves and ends, by its arguments."""

from __future__ import annotations

import time
from typing import Any

from npora.train.callbacks import Args, Control, State, TrainerCallback


class DefaultFlowCallback(TrainerCallback):
    """Asks for what logging_strategy, eval_strategy and save_strategy say, and for the end after max_steps.

    "steps" is each so many steps, and nothing besides: unlike transformers' it neither evaluates nor saves once more
    after a last step that is no multiple of them.
    """

    def __init__(self) -> None:
        self._saved = 0.0  # when

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        self._saved = time.monotonic()

    def on_save(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        self._saved = time.monotonic()

    def on_step_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        step = state.global_step
        if args.logging_first_step and step == 1:
            control.should_log = True
        if args.logging_strategy == "steps" and step % state.logging_steps == 0:
            control.should_log = True
        if args.eval_strategy == "steps" and step % state.eval_steps == 0 and args.eval_delay <= step:
            control.should_evaluate = True
        if args.save_strategy == "steps" and step % state.save_steps == 0:
            control.should_save = True
        if args.save_minutes is not None and time.monotonic() - self._saved >= 60 * args.save_minutes:
            control.should_save = True
        if step >= state.max_steps:
            control.should_training_stop = True

    def on_epoch_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        if args.logging_strategy == "epoch":
            control.should_log = True
        if args.eval_strategy == "epoch" and args.eval_delay <= state.epoch:
            control.should_evaluate = True
        if args.save_strategy == "epoch":
            control.should_save = True
