"""A training step, and the epochs of steps around it.

Over the batches of a step, which have N labels with the losses ℓ, with the rate η and the largest norm c:

    g = ∇ (Σ ℓ) / N              (1)  the gradient of the one large batch, however unequal the small ones are, and that
                                      of what an adapter's method adds to the loss (AdaLoRA)
    g ← g · min(1, c / ‖g‖)      (2)
    θ ← update(θ, g, η)          (3)
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from npora.lora.whole import after_step, penalty
from npora.nn import Module
from npora.nn.module import Parameter
from npora.optim import Optimizer, clip_grad_norm
from npora.train.arguments import TrainingArguments
from npora.train.batches import Batch, naming_examples, number_of_tokens
from npora.train.checks import check_reached
from npora.train.handler import CallbackHandler
from npora.train.interruption import BrokenOff
from npora.train.loaders import TrainLoader
from npora.train.micro_batches import accumulate_gradients
from npora.train.objective import inner
from npora.train.optimizer import Schedule
from npora.train.state import Step, TrainerState, step_rng

logger = logging.getLogger("npora")


@dataclass
class Run:
    """What a training is made of.

    model : with the loss that is learnt
    evaluate : given what an evaluation that did not come to its end has measured, to which it adds what it measures
    save : writes a checkpoint of a state
    """

    model: Module
    parameters: list[Parameter]
    optimizer: Optimizer
    schedule: Schedule
    loader: TrainLoader
    args: TrainingArguments
    state: TrainerState
    callbacks: CallbackHandler
    evaluate: Callable[[dict[str, Any]], None]
    save: Callable[[TrainerState], None]

    def tell(self, event: str, **more: Any) -> None:
        self.callbacks.tell(event, self.args, self.state, **more)


def training_step(run: Run, batches: Iterable[tuple[list[int], Batch]]) -> Step:
    """One update. Without a label that counts there is none: neither moments nor decay see such a step."""
    run.model.zero_grad()
    loss, items, tokens = forward_and_backward(run, batches)  # (1)
    norm = clip_grad_norm(run.parameters, run.args.max_grad_norm or math.inf)  # (2)
    step = Step(loss, norm, run.schedule(run.state.global_step), tokens, items)
    if items:
        update(run, step)  # (3)
    return step


def forward_and_backward(run: Run, batches: Iterable[tuple[list[int], Batch]]) -> tuple[float, float, int]:
    """(Σ ℓ) / N with the adapter's penalty, N and the number of tokens. Its gradient is then the parameters' grad."""
    rng = step_rng(run.args, run.state)
    loss, items, tokens = 0.0, 0.0, 0
    for i, (examples, batch) in enumerate(batches):
        if i:
            run.tell("on_substep_end")
        # An overflow shows in the loss or the norm.
        with np.errstate(over="ignore", invalid="ignore"), naming_examples(examples):
            losses, labels = accumulate_gradients(run.model, batch, rng, run.args.tokens_at_once)
        loss, items, tokens = loss + losses, items + labels, tokens + number_of_tokens(batch)
    for parameter in run.parameters:
        if parameter.grad is not None:
            parameter.grad *= 1 / (items or 1)
    if not items:
        return math.nan, items, tokens
    check_reached(run.parameters)
    return loss / items + penalty(inner(run.model)), items, tokens


def update(run: Run, step: Step) -> None:
    run.tell("on_pre_optimizer_step", step=step)
    if run.callbacks.control.should_skip_update:
        return
    run.schedule.set(run.state.global_step)
    with np.errstate(over="ignore", invalid="ignore"):  # an overflow shows in the next step's loss
        run.optimizer.step()
    run.tell("on_optimizer_step", step=step)
    after_step(inner(run.model), run.state.global_step + 1)


def train(run: Run) -> None:
    """Epochs of steps, and the events of each (see callbacks.py)."""
    step = None if run.state.ending is None else Step(**run.state.ending)
    if run.state.unanswered is not None:
        assert step is not None, "an evaluation after no step"
        go_on_answering(run, step)
    for epoch, numbers in epochs(run):
        run.tell("on_epoch_begin")
        for number in numbers:
            run.tell("on_step_begin")
            step = training_step(run, run.loader.step(epoch, number))
            run.state.count(step, run.loader.steps)
            run.tell("on_step_end", step=step)
            answer(run, step)
            if run.callbacks.control.should_epoch_stop or run.callbacks.control.should_training_stop:
                break
        run.tell("on_epoch_end")
        assert step is not None  # an epoch has a step, or is the end of one that had
        answer(run, step, epoch_is_over=True)


def answer(
    run: Run, step: Step, epoch_is_over: bool = False, metrics: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """What callbacks have asked for: a log, an evaluation and a checkpoint, in this order.

    metrics : what has been measured of this evaluation
    """
    state, steps = run.state, run.loader.steps
    logged = next((entry["step"] for entry in reversed(state.log_history) if "loss" in entry), 0)
    if run.callbacks.control.should_log and state.global_step > logged:
        logs = {name: getattr(step, name) for name in ("loss", "grad_norm", "learning_rate")} | {"epoch": state.epoch}
        state.log_history.append({"step": state.global_step, **logs})
        run.tell("on_log", logs=logs)
    if run.callbacks.control.should_evaluate:
        found, entries = dict(metrics), len(state.log_history) - len(metrics)
        try:
            run.evaluate(found)
        except Exception as error:
            if run.args.save_strategy != "no":
                del state.log_history[entries + len(found) :]
                save_unanswered(run, step, epoch_is_over, found)
                if not isinstance(error, BrokenOff):
                    logger.warning(
                        "the evaluation after step %d failed. The training up to there is saved, and "
                        "train(resume_from_checkpoint=True) goes on with the evaluation", state.global_step,
                    )  # fmt: skip
            raise
    if run.callbacks.control.should_epoch_stop:
        state.steps_left_out += -state.place % steps  # the rest of this epoch
    if run.callbacks.control.should_save:
        ending = step._asdict() if not epoch_is_over and is_last(run) else None
        run.save(replace(state, ending=ending))
        run.tell("on_save")


def save_unanswered(run: Run, step: Step, epoch_is_over: bool, metrics: Mapping[str, Any]) -> None:
    """Save a checkpoint that says which evaluation is still to be made, and what of it is."""
    left = {"asked": {**asdict(run.callbacks.control), "should_evaluate": True}, "epoch_is_over": epoch_is_over,
            "metrics": metrics}  # fmt: skip
    run.save(replace(run.state, ending=step._asdict(), unanswered=left))
    run.tell("on_save")


def go_on_answering(run: Run, step: Step) -> None:
    """Do what was left to do after a step whose evaluation did not come to its end."""
    left, run.state.unanswered = run.state.unanswered, None
    assert left is not None, "nothing was left"
    for flag, value in left["asked"].items():
        setattr(run.callbacks.control, flag, value)
    if left["epoch_is_over"]:
        run.state.ending = None
    answer(run, step, left["epoch_is_over"], left["metrics"])


def is_last(run: Run) -> bool:
    """Whether no step is left of this epoch."""
    state = run.state
    over = state.place % run.loader.steps == 0 or state.global_step >= state.max_steps
    return over or run.callbacks.control.should_training_stop


def epochs(run: Run) -> Iterator[tuple[int, range]]:
    """The epochs that are left, each with the numbers of its steps that are left.

    A checkpoint may be of an epoch's last step, before its end: then that epoch has no steps left and still ends. Where
    a callback stopped the training there, and does not ask for it again, the epoch goes on.
    """
    state, each = run.state, run.loader.steps
    ending, state.ending = state.ending, None
    if ending is not None and is_last(run):
        yield (state.place - 1) // each, range(0)
    while not run.callbacks.control.should_training_stop and state.global_step < state.max_steps:
        epoch, first = divmod(state.place, each)
        if epoch >= state.num_train_epochs:  # callbacks have cut some of them short
            break
        yield epoch, range(first, min(each, first + state.max_steps - state.global_step))
