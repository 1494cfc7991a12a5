"""Ctrl-C, SIGTERM and the end of the terminal (SIGHUP) end a training after the step that it is in, with a
checkpoint."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from npora.train.callbacks import Args, Control, State, TrainerCallback

logger = logging.getLogger("npora")

_HANGUP = getattr(signal, "SIGHUP", None)  # Windows has none
_DEFAULTS: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
if _HANGUP is not None:
    _DEFAULTS[_HANGUP] = signal.SIG_DFL  # nohup ignores it, and that stays so


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended a training.    saved : the checkpoint that it goes on from, None after a second Ctrl-C"""

    saved: str | None = None


class Terminated(SystemExit):
    """SIGTERM or SIGHUP did. Where nobody catches it, the process ends with the code 143 or 129, as a shell has it."""

    saved: str | None = None


class BrokenOff(Exception):
    """An evaluation ended after a batch that is not its last."""


class InterruptionCallback(TrainerCallback):
    """Asks for a checkpoint after the step in which a signal came, and ends the training when it is saved.

    An evaluation is broken off after a batch; the checkpoint says so, and a run that resumes begins with it.

    A second signal ends it at once, but for SIGHUP, which a shell and the system may both send. Handlers are set where
    a training saves at all, in the main thread alone, and where the program has none of its own; they are given back
    when the training ends.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._may_break_off = False

    @contextlib.contextmanager
    def listening(self, args: Args) -> Iterator[None]:
        """Within this block the signals are this callback's."""
        self.signal, own = None, {}
        if args.save_strategy != "no" and threading.current_thread() is threading.main_thread():
            own = {number: handler for number, handler in _DEFAULTS.items() if signal.getsignal(number) is handler}
        for number in own:
            signal.signal(number, self._come)
        try:
            yield
        finally:
            for number, handler in own.items():
                signal.signal(number, handler)
        if self.signal is not None:  # it came when all was done: it is for the program
            signal.raise_signal(self.signal)

    def _come(self, number: int, frame: Any) -> None:
        if self.signal is not None:
            if number == _HANGUP:
                return
            raise _ending(number, "interrupted at once: nothing was saved since the last checkpoint")
        self.signal = number
        what = b"the evaluation is broken off" if self._may_break_off else b"this step is finished"
        # Not print(), in whose midst the signal may have come.
        if sys.__stderr__ is not None:  # else 2 is another file
            with contextlib.suppress(OSError):  # there may be no terminal any more
                os.write(2, b"\ninterrupted: " + what + b", and then saved; once more stops at once\n")

    @contextlib.contextmanager
    def breaking_off(self) -> Iterator[None]:
        """Within this block, an evaluation of the training's own, a signal raises BrokenOff after the batch in which it
        came; before the first step, when there is nothing to save, it ends the training."""
        self._may_break_off = True
        try:
            yield
        finally:
            self._may_break_off = False

    def on_prediction_step(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        if self.signal is not None and self._may_break_off:
            if state.global_step:
                raise BrokenOff
            number, self.signal = self.signal, None
            raise _ending(number, "interrupted before the first step, when there was nothing to save")

    def on_step_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        self._ask(control)

    def on_evaluate_all(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        self._ask(control)

    def on_epoch_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        self._ask(control)

    def _ask(self, control: Control) -> None:
        if self.signal is not None:
            control.should_save = True

    def on_save(self, args: Args, state: State, control: Control, **kwargs: Any) -> None:
        if self.signal is not None:
            number, self.signal = self.signal, None
            path = os.path.join(args.output_dir, f"checkpoint-{state.global_step}")
            raise _ending(
                number,
                f"interrupted after step {state.global_step} of {state.max_steps}, which is saved in {path}: "
                "train(resume_from_checkpoint=True) goes on from there",
                path,
            )


def _ending(number: int, said: str, saved: str | None = None) -> Interrupted | Terminated:
    ending: Interrupted | Terminated
    if number == signal.SIGINT:
        ending = Interrupted(said)
    else:
        logger.warning("%s", said)  # a SystemExit says nothing
        ending = Terminated(128 + number)
    ending.saved = saved
    return ending
