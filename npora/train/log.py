"""One JSON line for each step, so that a run can be drawn while it goes on and after it broke."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

from npora.files.journal import Journal
from npora.files.refusal import naming
from npora.train.callbacks import Args, Control, ExportableState, State, TrainerCallback
from npora.train.finite import NotFinite
from npora.train.plain import plain
from npora.train.state import Step

LOG_NAME = "log.jsonl"


class StepLogCallback(TrainerCallback, ExportableState):
    """output_dir/log.jsonl, of one run alone.

    A checkpoint has the log's length and digest. A run that resumes goes on with the lines that were there then; what
    was written after them is written anew. Any other log in output_dir is an older run's: it is set aside as
    log-1.jsonl, log-2.jsonl, …
    """

    def __init__(self) -> None:
        self.mark: dict[str, Any] = {}  # of the checkpoint that a run goes on from
        self._journal: Journal | None = None
        self._began = 0.0

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        resumed, path = kwargs["resume_from_checkpoint"], os.path.join(args.output_dir, LOG_NAME)
        if resumed and self.mark:
            with naming(resumed):
                self._journal = Journal.resume(path, os.path.join(os.path.dirname(resumed), LOG_NAME), self.mark)
        else:
            self._journal = Journal(path)

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

    def state(self) -> dict[str, Any]:
        assert self._journal is not None, "a save outside a training"
        return {"args": {}, "attributes": {"mark": self._journal.mark()}}

    def on_close(
        self, args: Args, state: State, control: Control, *, error: BaseException | None, **kwargs: Any
    ) -> None:
        if self._journal is not None:
            try:
                if isinstance(error, NotFinite):
                    self._write({"step": error.step, "stopped": str(error)})
            finally:
                self._journal.close()
                self._journal, self.mark = None, {}

    def _write(self, entry: Mapping[str, Any]) -> None:
        assert self._journal is not None, "a step outside a training"
        self._journal.write(json.dumps(plain(entry)))
