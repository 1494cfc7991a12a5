"""A learning rate that falls where a metric gets no better."""

from __future__ import annotations

import math
from typing import Any

from npora.nn.readable import Readable
from npora.optim.optimizer import Optimizer

_REMEMBERED = ("best", "num_bad_epochs", "cooldown_counter")


class ReduceLROnPlateau(Readable):
    """lr ← max(factor · lr, min_lr), of every group, when `patience` metrics in a row were no better; torch's.

    mode : "min" where less is better, "max"
    threshold, threshold_mode : better means by more than this share of the best ("rel"), or by more than this ("abs")
    cooldown : how many metrics count for nothing after the rate has fallen
    eps : what changes a rate by no more leaves it as it is

    Raises
    ------
    ValueError: a mode that there is not, or a factor of 1 or more.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        if factor >= 1:
            raise ValueError(f"factor must be below 1: it makes rates fall; got {factor}")
        for name, value, known in (
            ("mode", mode, ("min", "max")), ("threshold_mode", threshold_mode, ("rel", "abs")),
        ):  # fmt: skip
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}")
        self.optimizer, self.sign = optimizer, 1 if mode == "max" else -1
        self.factor, self.patience, self.cooldown, self.min_lr, self.eps = factor, patience, cooldown, min_lr, eps
        self.threshold, self.is_relative = threshold, threshold_mode == "rel"
        self.best, self.num_bad_epochs, self.cooldown_counter = -self.sign * math.inf, 0, 0

    def step(self, metrics: float) -> None:
        """Hear of the newest metric."""
        metrics = float(metrics)  # what is remembered is written to checkpoints
        gain = self.sign * self.threshold
        edge = self.best * (1 + gain) if self.is_relative else self.best + gain
        if self.sign * metrics > self.sign * edge:
            self.best, self.num_bad_epochs = metrics, 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            for group in self.optimizer.param_groups:
                lr = max(group["lr"] * self.factor, self.min_lr)
                if group["lr"] - lr > self.eps:
                    group["lr"] = lr
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on besides the rates, which the optimiser keeps."""
        return {name: getattr(self, name) for name in _REMEMBERED}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Take over what state_dict returned. Raises ValueError, and changes nothing, for anything else."""
        for name, value in saved.items():
            if name not in _REMEMBERED or type(value) not in (int, float):
                raise ValueError(
                    f"a plateau remembers {', '.join(_REMEMBERED)}, which are numbers; got {name}={value!r}"
                )
        vars(self).update(saved)
