"""The end of a training whose loss or gradient is no longer finite."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from npora.nn.module import Array, Parameter
from npora.train.callbacks import Args, Control, State, TrainerCallback
from npora.train.state import Step, trainable


class NotFinite(FloatingPointError):
    """step : the one at which training stops; loss : its loss"""

    def __init__(self, message: str, step: int, loss: float) -> None:
        super().__init__(message)
        self.step, self.loss = step, loss


class FiniteCallback(TrainerCallback):
    """Raises before an update that is not finite. The last values that gave a finite loss are then back in the model,
    and on the disk."""

    def __init__(self) -> None:
        self.parameters: dict[str, Parameter] = {}
        self.good: list[Array] = []

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        self.parameters = trainable(kwargs["model"])
        self.good = [parameter.data.copy() for parameter in self.parameters.values()]

    def on_pre_optimizer_step(self, args: Args, state: State, control: Control, *, step: Step, **kwargs: Any) -> None:
        if math.isfinite(step.loss) and math.isfinite(step.grad_norm):
            for value, parameter in zip(self.good, self.parameters.values(), strict=True):
                np.copyto(value, parameter.data)
        else:
            self._stop(args, state.global_step + 1, step.loss, kwargs["model"])

    def _stop(self, args: Args, step: int, loss: float, model: Any) -> None:
        bad = [n for n, p in self.parameters.items() if p.grad is not None and not np.isfinite(p.grad).all()]
        for value, parameter in zip(self.good, self.parameters.values(), strict=True):
            parameter.data = value.copy()
        model.zero_grad()
        saved = ""
        if hasattr(model, "save_pretrained"):
            path = os.path.join(args.output_dir, "last-good")
            model.save_pretrained(path)
            saved = f"; the adapter before it is saved in {path}"
        where = f", first in the gradient of {bad[0]}" if bad else ""
        raise NotFinite(
            f"step {step}: the loss is {loss} and something is not finite{where}: lower the learning rate, or look at "
            f"this step's rows{saved}",
            step,
            loss,
        )

    def on_close(
        self, args: Args, state: State, control: Control, *, error: BaseException | None, **kwargs: Any
    ) -> None:
        self.parameters, self.good = {}, []
