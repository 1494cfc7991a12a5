"""Numbers that are no longer finite: they are found at the step, and never saved."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from npora.nn.module import Array, Parameter
from npora.train.callbacks import Args, Control, State, TrainerCallback
from npora.train.state import Step, step_rng, trainable
from npora.train.tracing import first_not_finite

logger = logging.getLogger("npora")

_MOST_SKIPPED = 10  # in a row


class NotFinite(FloatingPointError):
    """step : the one at which training stops; loss : its loss"""

    def __init__(self, message: str, step: int, loss: float) -> None:
        super().__init__(message)
        self.step, self.loss = step, loss


def not_finite(arrays: Mapping[str, Array]) -> list[str]:
    """The names of those that hold nan or inf."""
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum takes no memory. One of finite numbers may overflow, and only then is each of them looked at.
        return [n for n, a in arrays.items() if not np.isfinite(a.sum()) and not np.isfinite(a).all()]


class FiniteCallback(TrainerCallback):
    """Raises before an update that is not finite, and after one that gave a value that is not. The last values that
    gave a finite loss are then back in the model, and on the disk. With on_nonfinite="skip" a step whose loss or
    gradient is not finite changes nothing, and the training goes on."""

    def __init__(self) -> None:
        self.parameters: dict[str, Parameter] = {}
        self.good: list[Array] = []
        self.skipped = 0  # in a row

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        self.parameters, self.skipped = trainable(kwargs["model"]), 0
        if bad := not_finite({name: parameter.data for name, parameter in self.parameters.items()}):
            raise NotFinite(
                f"before the first step {', '.join(bad)} holds nan or inf, from which nothing can be learnt: begin "
                "with other values", state.global_step, math.nan,
            )  # fmt: skip
        self.good = [parameter.data.copy() for parameter in self.parameters.values()]

    def on_pre_optimizer_step(self, args: Args, state: State, control: Control, *, step: Step, **kwargs: Any) -> None:
        if math.isfinite(step.loss) and math.isfinite(step.grad_norm):
            self.skipped = 0
            for value, parameter in zip(self.good, self.parameters.values(), strict=True):
                np.copyto(value, parameter.data)
            return
        loader = kwargs["train_dataloader"]
        batches = loader.step(*divmod(state.place, loader.steps))
        first = first_not_finite(kwargs["objective"], batches, step_rng(args, state), args.tokens_at_once)
        wrong = f"the loss is {step.loss:g}, the gradient's norm {step.grad_norm:g}; the first not finite is {first}"
        if args.on_nonfinite == "skip" and self.skipped < _MOST_SKIPPED:
            self.skipped += 1
            control.should_skip_update = True
            logger.warning("step %d: %s; its update is left out", state.global_step + 1, wrong)
            return
        if self.skipped:
            wrong += f", as in the {self.skipped} steps before it"
        self._stop(args, state.global_step + 1, step.loss, wrong, kwargs["model"])

    def on_optimizer_step(self, args: Args, state: State, control: Control, *, step: Step, **kwargs: Any) -> None:
        if bad := not_finite({name: parameter.data for name, parameter in self.parameters.items()}):
            wrong = f"the update, with the learning rate {step.learning_rate:g}, made {bad[0]} infinite or nan"
            self._stop(args, state.global_step + 1, step.loss, wrong, kwargs["model"])

    def _stop(self, args: Args, step: int, loss: float, wrong: str, model: Any) -> None:
        for value, parameter in zip(self.good, self.parameters.values(), strict=True):
            parameter.data = value.copy()
        model.zero_grad()
        saved = ""
        if hasattr(model, "save_pretrained"):
            path = os.path.join(args.output_dir, "last-good")
            model.save_pretrained(path)
            saved = f"; the adapter before it is saved in {path}"
        raise NotFinite(
            f"step {step}: {wrong}: lower the learning rate, or look at this step's examples{saved}", step, loss
        )

    def on_close(
        self, args: Args, state: State, control: Control, *, error: BaseException | None, **kwargs: Any
    ) -> None:
        self.parameters, self.good = {}, []
