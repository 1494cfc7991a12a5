"""A range test of the learning rate (Smith, 2017): some steps whose rate grows from tiny to far too large.

The loss stands still where the rate is too small, falls, and rises again where it is too large. Of the rates between,
the one at which it falls fastest is one to begin with.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from npora.files.picture import COLOURS, blank, saved
from npora.machine.heap import keeping_freed_memory
from npora.nn.module import Array
from npora.nn.readable import brief
from npora.optim import clip_grad_norm
from npora.train.batches import check_dataset
from npora.train.checks import check_trainable
from npora.train.handler import CallbackHandler
from npora.train.loaders import TrainLoader
from npora.train.loop import Run, forward_and_backward
from npora.train.optimizer import Schedule, lr_ratio, make_optimizer
from npora.train.state import TrainerState, trainable
from npora.train.trainer import Trainer

_BESIDE = 0.06  # the share of the points on either side that a mean is over
_AROUND = 0.15  # and those that a line is laid through
_LATELY = 5  # the steps whose mean ends the test


class RangeTest(NamedTuple):
    """lr and loss, of each step; suggestion() and plot(), under Lightning's names."""

    lr: list[float]
    loss: list[float]

    def suggestion(self) -> float | None:
        """The rate at which the loss falls fastest over log lr; None where it nowhere falls. The slope at a rate is
        that of the least-squares line through the losses around it: over a step it would be the noise of batches."""
        beside = max(1, round(_AROUND * len(self.lr)))
        loss, offsets = np.asarray(self.loss)[np.isfinite(self.loss)], np.arange(-beside, beside + 1)
        if len(loss) < len(offsets):
            return None
        slope = np.correlate(loss, offsets, "valid")  # Σ k ℓ_{i+k}, the line's slope but for a constant factor
        return self.lr[beside + int(slope.argmin())] if slope.min() < 0 else None

    def smoothed(self) -> tuple[Array, Array]:
        """Rates, and the mean of the losses around each: of as many on either side, so that it does not lag behind."""
        beside = max(1, round(_BESIDE * len(self.lr)))
        loss = np.asarray(self.loss)[np.isfinite(self.loss)]
        width = 2 * beside + 1
        if len(loss) < width:
            return np.zeros(0), np.zeros(0)
        return np.asarray(self.lr)[beside : len(loss) - beside], np.convolve(loss, np.full(width, 1 / width), "valid")

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """Draw the loss over the rate, and the suggestion (extra `plot`). Returns matplotlib's figure."""
        figure = blank(7, 4.5)
        axes = figure.add_subplot()
        axes.semilogx(self.lr, self.loss, color=COLOURS[0], alpha=0.35, linewidth=0.8, label="loss")
        axes.semilogx(*self.smoothed(), color=COLOURS[0], label="mean of those around")
        if (rate := self.suggestion()) is not None:
            axes.axvline(rate, color=COLOURS[1], linestyle="--", label=f"falls fastest at {rate:.2g}")
        finite = [loss for loss in self.loss if math.isfinite(loss)]
        low, high = min(finite), sorted(finite)[int(0.9 * len(finite))]
        axes.set_ylim(low - 0.1 * (high - low), high + 0.3 * (high - low) + 1e-9)
        axes.set(xlabel="learning rate", ylabel="loss", title="learning rate range test")
        axes.grid(color="0.9", linewidth=0.5)
        axes.legend(fontsize=8)
        return saved(figure, path)

    def said(self) -> Iterator[str]:
        yield f"{len(self.lr)} steps of lr {brief(self.lr[0])} … {brief(self.lr[-1])}"
        yield f"suggestion={brief(self.suggestion())}"

    def __repr__(self) -> str:
        return f"RangeTest({', '.join(self.said())})"


def learning_rate_finder(
    trainer: Trainer,
    min_lr: float = 1e-6,
    max_lr: float = 1.0,
    num_training: int = 100,
    early_stop_threshold: float | None = 4.0,
) -> RangeTest:
    """Take num_training steps on the trainer's examples whose rate grows by a constant factor from min_lr to max_lr.

    The optimiser, batches and loss are those of trainer.args; afterwards the model has the values that it had, and
    nothing is written. An optimiser of `optimizers` is not used: its groups would all get one rate.

    early_stop_threshold : end where the mean of the last losses is so many times the least so far, or not finite

    Raises
    ------
    ValueError: as train(), and rates that do not grow.
    """
    if not (0 < min_lr < max_lr and num_training > 2):
        raise ValueError(
            f"a range test needs 0 < min_lr < max_lr and 3 steps or more; got {min_lr}, {max_lr}, {num_training}"
        )
    model, args = trainer.model, trainer.args
    data = check_dataset(trainer.train_dataset, "train_dataset")
    check_trainable(model)
    named = trainable(model)
    before = [(parameter, parameter.data.copy()) for parameter in named.values()]
    loader, optimizer, state = TrainLoader(trainer._batches, data, args), make_optimizer(model, args), TrainerState()
    run = Run(trainer.objective(), list(named.values()), optimizer, Schedule(args, optimizer, num_training), loader,
              args, state, CallbackHandler([]), lambda metrics: None, lambda state: None)  # fmt: skip
    found, lately = RangeTest([], []), list[float]()
    try:
        with keeping_freed_memory():
            for step in range(num_training):
                model.zero_grad()
                loss, items, _ = forward_and_backward(run, loader.step(*divmod(step, loader.steps)))
                norm = clip_grad_norm(run.parameters, args.max_grad_norm or math.inf)
                if items:
                    rate = min_lr * (max_lr / min_lr) ** (step / (num_training - 1))
                    found.lr.append(rate)
                    found.loss.append(loss)
                    lately.append(sum(found.loss[-_LATELY:]) / len(found.loss[-_LATELY:]))
                    is_over = len(lately) > _LATELY and lately[-1] > (early_stop_threshold or math.inf) * min(lately)
                    if is_over or not (math.isfinite(loss) and math.isfinite(norm)):
                        break
                    for group in optimizer.param_groups:
                        group["lr"] = rate * lr_ratio(group)
                    with np.errstate(over="ignore", invalid="ignore"):
                        optimizer.step()
                state.global_step += 1
    finally:
        for parameter, values in before:
            parameter.data = values
        model.zero_grad()
    if not found.lr:
        raise ValueError("no label counts in any of the examples: there is no loss")
    return found
