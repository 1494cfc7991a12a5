"""The callbacks of a Trainer, told of events in their order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from npora.files.refusal import shortened
from npora.train.arguments import TrainingArguments
from npora.train.callbacks import ExportableState, TrainerCallback, TrainerControl
from npora.train.plain import plain
from npora.train.state import TrainerState

logger = logging.getLogger("npora")

# The flags that an event takes back before it is told.
_TAKEN_BACK = {
    "on_train_begin": ("should_training_stop",), "on_epoch_begin": ("should_epoch_stop",), "on_log": ("should_log",),
    "on_step_begin": ("should_log", "should_evaluate", "should_save"), "on_evaluate": ("should_evaluate",),
    "on_save": ("should_save",), "on_pre_optimizer_step": ("should_skip_update",),
}  # fmt: skip


class CallbackHandler:
    """callbacks : in the order in which they are told
    control : what they have asked for
    given : what every event is told by name
    """

    def __init__(self, callbacks: Iterable[object]) -> None:
        self.callbacks: list[TrainerCallback] = []
        self.control = TrainerControl()
        self.given: dict[str, Any] = dict.fromkeys(
            ("model", "processing_class", "optimizer", "lr_scheduler", "train_dataloader", "eval_dataloader")
        )
        for callback in callbacks:
            self.add_callback(callback)

    def add_callback(self, callback: object) -> None:
        """A callback, or a class that makes one. Raises TypeError for anything else."""
        if isinstance(callback, type) and issubclass(callback, TrainerCallback):
            callback = callback()
        if not isinstance(callback, TrainerCallback):
            raise TypeError(f"callbacks must be npora's TrainerCallbacks, classes or instances; got {_named(callback)}")
        if any(type(other) is type(callback) for other in self.callbacks):
            logger.warning("there is a %s among the callbacks already: both are called", type(callback).__name__)
        self.callbacks.append(callback)

    def pop_callback(self, callback: object) -> TrainerCallback | None:
        """Take out this callback, or the first of this class, and return it; None where there is none."""
        for found in self.callbacks:
            if isinstance(found, callback) if isinstance(callback, type) else found is callback:
                self.callbacks.remove(found)
                return found
        return None

    def remove_callback(self, callback: object) -> None:
        """Take out this callback, or the first of this class if there is one. Raises ValueError: it is not there."""
        if self.pop_callback(callback) is None and not isinstance(callback, type):
            names = ", ".join(type(other).__name__ for other in self.callbacks)
            raise ValueError(f"{_named(callback)} is none of the callbacks; there are: {names}")

    def tell(self, event: str, args: TrainingArguments, state: TrainerState, **more: Any) -> None:
        """Call each callback's method of this name, with args, state and control, and the others by name."""
        for flag in _TAKEN_BACK.get(event, ()):
            setattr(self.control, flag, False)
        for callback in tuple(self.callbacks):
            self._tell(callback, event, args, state, more)

    def _tell(
        self, callback: TrainerCallback, event: str, args: TrainingArguments, state: TrainerState, more: dict[str, Any]
    ) -> None:
        answer = getattr(callback, event)(args, state, self.control, **{**self.given, **more})
        if answer is not None and not isinstance(answer, TrainerControl):
            kind, came = type(callback).__name__, type(answer).__name__
            raise TypeError(f"{kind}.{event} must return its control, or nothing; got {came}")
        self.control = answer or self.control

    @contextmanager
    def closing(self, args: TrainingArguments, state: TrainerState) -> Iterator[None]:
        """At the end of this block, however it comes, all callbacks are told, also after one that raises."""
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            failed: list[Exception] = []
            for callback in tuple(self.callbacks):
                try:
                    self._tell(callback, "on_close", args, state, {"error": error})
                except Exception as raised:
                    failed.append(raised)
                    logger.warning("%s.on_close: %r", type(callback).__name__, raised)
            if failed and error is None:
                raise failed[0]

    def states(self) -> dict[str, Any]:
        """The state of each ExportableState by its class's name, a list where there are several, as in transformers."""
        found: dict[str, list[Any]] = {}
        for callback in self.callbacks:
            if isinstance(callback, ExportableState):
                found.setdefault(type(callback).__name__, []).append(plain(callback.state()))
        return {name: states[0] if len(states) == 1 else states for name, states in found.items()}

    def restore(self, states: Mapping[str, Any]) -> None:
        """Give back what states() found."""
        for name, saved in states.items():
            saved = saved if isinstance(saved, list) else [saved]
            if not all(isinstance(state, dict) and isinstance(state.get("attributes"), dict) for state in saved):
                raise ValueError(f"the checkpoint's state of {shortened(name)} is none of a callback")
            own = [cb for cb in self.callbacks if isinstance(cb, ExportableState) and type(cb).__name__ == name]
            if len(own) != len(saved):
                logger.warning("the checkpoint has the state of %d %s, this run has %d", len(saved), name, len(own))
            for callback, state in zip(own, saved, strict=False):
                callback.restore(state)


def _named(callback: object) -> str:
    kind = callback if isinstance(callback, type) else type(callback)
    return f"{kind.__module__}.{kind.__qualname__}"
