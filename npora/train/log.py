"""One JSON line for each step, so that a run can be drawn while it goes on and after it broke."""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import Mapping
from typing import Any, TextIO

from npora.train.callbacks import Args, Control, State, TrainerCallback
from npora.train.finite import NotFinite
from npora.train.plain import plain
from npora.train.state import Step

LOG_NAME = "log.jsonl"


class StepLogCallback(TrainerCallback):
    """output_dir/log.jsonl, of one run alone.

    A run that resumes after step N begins with the lines up to N of the run it goes on from, which is the log beside
    that run's checkpoint. Any other log in output_dir is an older run's: it is set aside as log-1.jsonl, log-2.jsonl, …
    """

    def __init__(self) -> None:
        self._file: TextIO | None = None
        self._began = 0.0

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        resumed = kwargs["resume_from_checkpoint"]
        path = os.path.join(args.output_dir, LOG_NAME)
        before = os.path.join(os.path.dirname(resumed), LOG_NAME) if resumed else None
        kept = _lines_until(before, state) if before else []
        if os.path.exists(path) and not (before and os.path.exists(before) and os.path.samefile(before, path)):
            os.replace(path, _free_name(path))
        self._file = open(path, "w", encoding="utf-8", buffering=1)  # a line is on its way as soon as it is written
        self._file.writelines(kept)

    def on_step_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, args: Args, state: State, control: Control, *, step: Step, **kwargs: Any) -> None:
        seconds = time.perf_counter() - self._began
        self._write({"step": state.global_step, "loss": step.loss, "grad_norm": step.grad_norm,
                     "learning_rate": step.learning_rate, "epoch": state.epoch, "tokens": step.tokens,
                     "seconds": seconds})  # fmt: skip

    def on_evaluate_all(
        self, args: Args, state: State, control: Control, *, metrics: Mapping[str, Any], **kwargs: Any
    ) -> None:
        self._write({"step": state.global_step, **metrics})

    def on_close(
        self, args: Args, state: State, control: Control, *, error: BaseException | None, **kwargs: Any
    ) -> None:
        if self._file is not None:
            if isinstance(error, NotFinite):
                self._write({"step": error.step, "stopped": f"the loss is {error.loss}"})
            self._file.close()
            self._file = None

    def _write(self, entry: Mapping[str, Any]) -> None:
        assert self._file is not None, "a step outside a training"
        self._file.write(json.dumps(plain(entry)) + "\n")


def _free_name(path: str) -> str:
    stem, ending = os.path.splitext(path)
    return next(name for i in itertools.count(1) if not os.path.exists(name := f"{stem}-{i}{ending}"))


def _lines_until(path: str, state: State) -> list[str]:
    """The lines of a log that were there when the checkpoint of this state was saved: where an evaluation came right
    after it, state.log_history does not have it, and it will be made again."""
    step, kept = state.global_step, []
    known = [plain(entry) for entry in state.log_history if entry["step"] == step]
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                    if entry["step"] < step or (
                        entry["step"] == step and ("loss" in entry or any(k.items() <= entry.items() for k in known))
                    ):
                        kept.append(line)
                except (ValueError, KeyError):  # a line that a crash cut short
                    break
    return kept
