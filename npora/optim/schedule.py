"""How the learning rate changes: a factor for each step, under transformers' names and with its options.

W steps of warm-up are step / W, so that the rate of step 0 is 0. After them p runs from 0 to 1 over the rest of the
steps.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple

Factor = Callable[[int], float]


class _Plan(NamedTuple):
    """What every schedule is given: steps of warm-up, steps in all, and the rate that its factors are of."""

    warmup: int
    steps: int
    lr: float | None

    def after_warmup(self, shape: Callable[[float], float]) -> Factor:
        """step / W, and then shape(p)."""

        def factor(step: int) -> float:
            if step < self.warmup:
                return step / self.warmup
            return shape((step - self.warmup) / max(1, self.steps - self.warmup))

        return factor

    def share(self, name: str, rate: float) -> float:
        """A rate as a factor of lr."""
        if not self.lr:
            raise ValueError(f"{name} is a learning rate: say of which, as get_schedule(…, lr=…)")
        return rate / self.lr

    def floor(self, min_lr: float | None, min_lr_rate: float | None) -> float:
        if (min_lr is None) == (min_lr_rate is None):
            raise ValueError(
                "this schedule needs min_lr, or min_lr_rate, its share of the learning rate, and not both; got "
                f"min_lr={min_lr!r}, min_lr_rate={min_lr_rate!r}"
            )
        return self.share("min_lr", min_lr) if min_lr is not None else min_lr_rate  # type: ignore[return-value]


def _constant(plan: _Plan) -> Factor:
    """1 from the first step on."""
    return lambda step: 1.0


def _constant_with_warmup(plan: _Plan) -> Factor:
    """1"""
    return plan.after_warmup(lambda p: 1.0)


def _linear(plan: _Plan) -> Factor:
    """1 − p"""
    return plan.after_warmup(lambda p: max(0.0, 1 - p))


def _wave(p: float, num_cycles: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * num_cycles * 2 * p))


def _cosine(plan: _Plan, num_cycles: float = 0.5) -> Factor:
    """(1 + cos 2πcp)/2, with c = num_cycles: half a wave unless given"""
    return plan.after_warmup(lambda p: max(0.0, _wave(p, num_cycles)))


def _cosine_with_restarts(plan: _Plan, num_cycles: int = 1) -> Factor:
    """(1 + cos π(cp mod 1))/2, and 0 at p = 1"""
    return plan.after_warmup(lambda p: 0.0 if p >= 1 else _wave(num_cycles * p % 1, 0.5))


def _polynomial(plan: _Plan, lr_end: float = 1e-7, power: float = 1.0) -> Factor:
    """e + (1 − e)(1 − p)^power, with e = lr_end / lr"""
    end = plan.share("lr_end", lr_end)
    if end >= 1:
        raise ValueError(f"polynomial goes down to lr_end={lr_end}: expected less than the learning rate {plan.lr}")
    return plan.after_warmup(lambda p: end + (1 - end) * max(0.0, 1 - p) ** power)


def _inverse_sqrt(plan: _Plan, timescale: int | None = None) -> Factor:
    """√(τ / (τ + step − W)), with τ = timescale: W unless given, or 10000 without warm-up"""
    tau = timescale or plan.warmup or 10_000

    def factor(step: int) -> float:
        if step < plan.warmup:
            return step / plan.warmup
        return 1 / math.sqrt((step - plan.warmup + tau) / tau)

    return factor


def _cosine_with_min_lr(
    plan: _Plan, num_cycles: float = 0.5, min_lr: float | None = None, min_lr_rate: float | None = None
) -> Factor:
    """e + (1 − e)(1 + cos 2πcp)/2, with e = min_lr_rate, or min_lr / lr"""
    end = plan.floor(min_lr, min_lr_rate)
    return plan.after_warmup(lambda p: max(0.0, end + (1 - end) * _wave(p, num_cycles)))


def _cosine_warmup_with_min_lr(
    plan: _Plan,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> Factor:
    """The same one step ahead, so that no step has the rate 0: (step + 1)/W, or from warmup_lr_rate up to 1"""
    end, (warmup, steps, _) = plan.floor(min_lr, min_lr_rate), plan

    def factor(step: int) -> float:
        if step < warmup:
            if warmup_lr_rate is None:
                return (step + 1) / warmup
            return warmup_lr_rate + (1 - warmup_lr_rate) * step / max(1, warmup - 1)
        p = (step - warmup + 1) / max(1, steps - warmup)
        return max(0.0, end + (1 - end) * _wave(p, num_cycles))

    return factor


def _warmup_stable_decay(
    plan: _Plan,
    num_decay_steps: int,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
) -> Factor:
    """From e = min_lr_ratio up to 1, 1 for num_stable_steps (the rest unless given), and down to e again"""
    up: dict[str, Callable[[float], float]] = {
        "linear": lambda p: p, "cosine": lambda p: 1 - _wave(p, 0.5), "1-sqrt": lambda p: 1 - math.sqrt(1 - p),
    }  # fmt: skip
    down: dict[str, Callable[[float], float]] = {
        "linear": lambda p: 1 - p, "cosine": lambda p: _wave(p, num_cycles), "1-sqrt": lambda p: 1 - math.sqrt(p),
    }  # fmt: skip
    for name, kind in (("warmup_type", warmup_type), ("decay_type", decay_type)):
        if kind not in up:
            raise ValueError(f"{name} must be one of {', '.join(up)}; got {kind!r}")
    stable = plan.steps - plan.warmup - num_decay_steps if num_stable_steps is None else num_stable_steps
    begin = plan.warmup + stable

    def factor(step: int) -> float:
        if step < plan.warmup:
            height = up[warmup_type](step / plan.warmup)
        elif step < begin:
            height = 1.0
        else:
            height = down[decay_type]((step - begin) / num_decay_steps) if step < begin + num_decay_steps else 0.0
        return max(0.0, min_lr_ratio + (1 - min_lr_ratio) * height)

    return factor


SCHEDULES: dict[str, Callable[..., Factor]] = {
    "constant": _constant,
    "constant_with_warmup": _constant_with_warmup,
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "polynomial": _polynomial,
    "inverse_sqrt": _inverse_sqrt,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "cosine_warmup_with_min_lr": _cosine_warmup_with_min_lr,
    "warmup_stable_decay": _warmup_stable_decay,
}


def get_schedule(
    name: str, num_warmup_steps: int, num_training_steps: int, lr: float | None = None, **options: Any
) -> Factor:
    """step ↦ the factor of the learning rate, for step = 0, 1, … below num_training_steps.

    lr : the learning rate, which an option that is itself one (lr_end, min_lr) is compared with
    options : of the schedule, as transformers' lr_scheduler_kwargs

    Raises
    ------
    ValueError: an unknown name, or a value that makes no sense.
    TypeError: an option that the schedule has not, or lacks.
    """
    if name not in SCHEDULES:
        raise ValueError(f"lr_scheduler_type must be one of {', '.join(SCHEDULES)}; got {name!r}")
    make, plan = SCHEDULES[name], _Plan(num_warmup_steps, num_training_steps, lr)
    try:
        inspect.signature(make).bind(plan, **options)
    except TypeError as error:
        takes = ", ".join(list(inspect.signature(make).parameters)[1:]) or "none"
        raise TypeError(f"the schedule {name!r} takes the options {takes}: {error}") from None
    return make(plan, **options)
