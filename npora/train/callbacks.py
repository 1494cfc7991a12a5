"""What listens to a training: the events, their order and what may be asked for in them are transformers'.

    on_init_end                                             Trainer is made
    on_train_begin
        on_epoch_begin
            on_step_begin
                on_substep_end                              after each batch of a step but the last
                on_pre_optimizer_step  on_optimizer_step    before and after the update; none where no label counts
            on_step_end
            …                                               what was asked for: on_log, then on_evaluate, then on_save
        on_epoch_end
        …                                                   what was asked for, once more
        on_log                                              of the whole training
    on_train_end
    on_close                                                also where an error ended it

An evaluation is on_prediction_step after each batch, on_log and on_evaluate; a prediction on_prediction_step after each
and on_predict. A step is whole: who asks in the midst of one that training stops has it stopped at its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from npora.nn.readable import Readable
from npora.train.arguments import TrainingArguments
from npora.train.state import Step, TrainerState


@dataclass
class TrainerControl(Readable):
    """What callbacks ask for: they set its flags, at any event.

    should_training_stop, should_epoch_stop : no step is taken after this one, or none of this epoch
    should_log, should_evaluate, should_save : after this step, or at this end of an epoch
    should_skip_update : this step changes nothing, asked for in on_pre_optimizer_step. npora's own
    """

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False
    should_skip_update: bool = False


# Short names for the signatures of events.
Args = TrainingArguments
State = TrainerState
Control = TrainerControl
Answer = TrainerControl | None
_Own = TypeVar("_Own", bound="ExportableState")


class TrainerCallback(Readable):
    """Hears of each event, and may set the flags of `control` at it. One that returns a control puts it in its place.

    Each event has args, state and control, and by name, each None until there is one: model, processing_class,
    optimizer, lr_scheduler (its get_last_lr()), train_dataloader and eval_dataloader (a length, and batches). Some have
    besides: logs; metrics; or step, with its loss, grad_norm, learning_rate, tokens and items (the labels that count).
    What a callback raises ends the run, as an error of the training itself does.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        for name in vars(cls):
            if name.startswith("on_") and not hasattr(TrainerCallback, name):
                raise TypeError(
                    f"{cls.__name__}.{name} would never be called: npora's events are {', '.join(sorted(EVENTS))}"
                )

    def on_init_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> Answer:
        """Trainer is made."""

    def on_train_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> Answer:
        """Training begins. kwargs has resume_from_checkpoint: the path that it goes on from, or None."""

    def on_train_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> Answer:
        """Training is over, and the best model is loaded where that was asked for."""

    def on_epoch_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> Answer:
        """An epoch begins, or one that was broken off goes on."""

    def on_epoch_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> Answer:
        """An epoch is over, or the training in the midst of one."""

    def on_step_begin(self, args: Args, state: State, control: Control, **kwargs: Any) -> Answer:
        """A step begins: gradient_accumulation_steps batches, and one update."""

    def on_substep_end(self, args: Args, state: State, control: Control, **kwargs: Any) -> Answer:
        """A batch is done that is not the last of its step."""

    def on_pre_optimizer_step(self, args: Args, state: State, control: Control, *, step: Step, **kwargs: Any) -> Answer:
        """The gradients of a step are there, averaged and clipped."""

    def on_optimizer_step(self, args: Args, state: State, control: Control, *, step: Step, **kwargs: Any) -> Answer:
        """The parameters are updated; the gradients are still there."""

    def on_step_end(self, args: Args, state: State, control: Control, *, step: Step, **kwargs: Any) -> Answer:
        """A step is over; state has counted it."""

    def on_evaluate(
        self, args: Args, state: State, control: Control, *, metrics: Mapping[str, Any], **kwargs: Any
    ) -> Answer:
        """A dataset has been evaluated."""

    def on_evaluate_all(
        self, args: Args, state: State, control: Control, *, metrics: Mapping[str, Any], **kwargs: Any
    ) -> Answer:
        """In a training, all of the eval_datasets have been evaluated. npora's own: transformers has no such event."""

    def on_predict(
        self, args: Args, state: State, control: Control, *, metrics: Mapping[str, Any], **kwargs: Any
    ) -> Answer:
        """A dataset has been predicted."""

    def on_prediction_step(self, args: Args, state: State, control: Control, **kwargs: Any) -> Answer:
        """A batch of an evaluation or a prediction is done."""

    def on_save(self, args: Args, state: State, control: Control, **kwargs: Any) -> Answer:
        """A checkpoint has been saved."""

    def on_log(self, args: Args, state: State, control: Control, *, logs: Mapping[str, Any], **kwargs: Any) -> Answer:
        """The loss, what an evaluation found, or at the end what train() returns."""

    def on_close(
        self, args: Args, state: State, control: Control, *, error: BaseException | None, **kwargs: Any
    ) -> Answer:
        """A training is over, or an evaluation or prediction outside one, also by this error: close files and bars.
        npora's own; all callbacks hear of it, whatever others raise."""


EVENTS = tuple(name for name in vars(TrainerCallback) if name.startswith("on_"))


class ExportableState(Readable):
    """A callback that is one, too, has its state in checkpoints, and a resumed run gives it back.

    state() returns {"args": what __init__ takes, "attributes": {name: value}} of what JSON can hold. The attributes are
    given back; the arguments are those of the resumed run's own callback.
    """

    def state(self) -> dict[str, Any]:
        raise NotImplementedError(f"{type(self).__name__} is an ExportableState: it needs a method state()")

    @classmethod
    def from_state(cls: type[_Own], state: Mapping[str, Any]) -> _Own:
        made = cls(**state["args"])
        made.restore(state)
        return made

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, value in state["attributes"].items():
            if callable(getattr(type(self), name, None)):  # a method is no state
                raise ValueError(f"{type(self).__name__}.{name} cannot be given back")
            setattr(self, name, value)
