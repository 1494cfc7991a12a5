"""How the learning rate changes: a factor for each step, as in transformers."""

from __future__ import annotations

import math
from collections.abc import Callable

_SHAPES: dict[str, Callable[[float], float]] = {
    "constant": lambda p: 1.0,
    "constant_with_warmup": lambda p: 1.0,
    "linear": lambda p: max(0.0, 1 - p),
    "cosine": lambda p: max(0.0, 0.5 * (1 + math.cos(math.pi * p))),
}


def get_schedule(name: str, num_warmup_steps: int, num_training_steps: int) -> Callable[[int], float]:
    """step ↦ the factor of the learning rate, for step = 0, 1, … below num_training_steps.

    constant is 1 from the first step on. The others warm up: step / num_warmup_steps, so that the rate of step 0 is 0.
    After that, with p from 0 to 1 over the rest: constant_with_warmup 1, linear 1 − p, cosine (1 + cos π p)/2.

    Raises
    ------
    ValueError: an unknown name.
    """
    if name not in _SHAPES:
        raise ValueError(f"lr_scheduler_type must be one of {', '.join(_SHAPES)}; got {name!r}")
    shape, num_warmup_steps = _SHAPES[name], 0 if name == "constant" else num_warmup_steps

    def factor(step: int) -> float:
        if step < num_warmup_steps:
            return step / num_warmup_steps
        return shape((step - num_warmup_steps) / max(1, num_training_steps - num_warmup_steps))

    return factor
