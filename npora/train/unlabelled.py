"""What is said of steps without a label that counts."""

from __future__ import annotations

import logging
from typing import Any

from npora.train.callbacks import Args, Control, State, TrainerCallback
from npora.train.state import Step

logger = logging.getLogger("npora")

_WHY = "no label of its examples counts: all are −100, or have no token before them"


class UnlabelledCallback(TrainerCallback):
    """Warns that a step changed nothing, and raises ValueError at an epoch's end where none did."""

    def on_step_end(self, args: Args, state: State, control: Control, *, step: Step, **kwargs: Any) -> None:
        if step.items:
            return
        logger.warning("step %d: %s; it changes nothing", state.global_step, _WHY)
        at_end = state.epoch.is_integer() or state.global_step == state.max_steps
        if at_end and state.steps_without_labels == state.global_step:
            raise ValueError(
                f"there is nothing to learn: in {state.global_step} steps {_WHY}. Was every completion cut off "
                "(max_length)?"
            )
