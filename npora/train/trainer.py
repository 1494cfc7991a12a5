"""The training loop, under the names of transformers' Trainer."""

from __future__ import annotations

import inspect
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

from npora.files.refusal import naming
from npora.machine.heap import keeping_freed_memory
from npora.nn import Module
from npora.nn.module import Array
from npora.nn.readable import Readable, named_tuple
from npora.optim import Optimizer
from npora.optim.schedule import Factor
from npora.train.arguments import PLATEAU, TrainingArguments
from npora.train.batches import Batches, Collator, Example, check_dataset
from npora.train.best import BestModelCallback
from npora.train.callbacks import TrainerCallback, TrainerControl
from npora.train.checkpoints import load_checkpoint, refuse_changed_base, save_checkpoint
from npora.train.checks import check_kinds, check_trainable
from npora.train.evaluation import Metrics
from npora.train.evaluator import Evaluator
from npora.train.finite import FiniteCallback
from npora.train.flow import DefaultFlowCallback
from npora.train.folder import bring_best, last_checkpoint, leave_later, locked, new_id, prune, write_run
from npora.train.foreign import KEYWORDS, Methods, accept
from npora.train.handler import CallbackHandler
from npora.train.history import HistoryCallback
from npora.train.identity import base_sha256, identity
from npora.train.interruption import InterruptionCallback
from npora.train.loaders import TrainLoader
from npora.train.log import StepLogCallback
from npora.train.loop import Run, train
from npora.train.losses import Loss
from npora.train.manifest import read_manifest
from npora.train.modes import recomputing
from npora.train.optimizer import Schedule, check_optimizer, make_optimizer
from npora.train.own import all_told, told_evaluation
from npora.train.plateau import PlateauCallback
from npora.train.progress import ProgressCallback
from npora.train.state import TrainerState, trainable
from npora.train.unlabelled import UnlabelledCallback

logger = logging.getLogger("npora")

# What every Trainer is told by, before the callbacks of the user's; after these come ProgressCallback and
# InterruptionCallback.
_FIRST = (
    HistoryCallback, DefaultFlowCallback, UnlabelledCallback, FiniteCallback, BestModelCallback, StepLogCallback
)  # fmt: skip


# Schedules whose rates do not depend on how many steps there are in all.
_OF_NO_LENGTH = ("constant", "constant_with_warmup", "inverse_sqrt", PLATEAU)


class TrainOutput(NamedTuple):
    global_step: int
    training_loss: float
    metrics: dict[str, float]

    def __repr__(self) -> str:
        return named_tuple(self)


class Trainer(Evaluator, Methods, Readable):
    """Trains a model's trainable parameters.

    model : a Module whose forward takes arrays by name (those of its `inputs`, or of the signature where it has none)
        and `rng` for dropout, and returns (output, backward); with labels, output.loss is a mean over output.num_items
        labels, each of one example. model_init() makes one, where none is passed
    train_dataset, eval_dataset : any sequence of dicts with input_ids and labels (a Hugging Face Dataset too);
        eval_dataset may be a dict of several by name. Where a sequence has a method fingerprint() → dict, that tells
        it from others when a run is resumed
    processing_class : the tokenizer, also taken as `tokenizer`: its pad_token_id pads where the config has none, and
        save_model saves it along
    compute_metrics : EvalPrediction → {name: number}
    preprocess_logits_for_metrics : (logits, labels) → what is kept of a batch's logits for it
    data_collator : examples → a dict of arrays, in place of npora's own padding
    callbacks : a list of TrainerCallbacks, classes or instances, which hear of each event (see callbacks.py)
    compute_loss_func : (outputs, labels, num_items_in_batch) → (loss, backward) in place of the model's loss: a sum
        over labels divided by num_items_in_batch, how many of them count, and dℓ → dlogits (see losses.py)
    optimizers : an optimiser of npora.optim, whose groups may have rates and decays of their own, and step ↦ factor as
        of get_schedule, a function of the step alone; either may be None, and is then made by args

    Other keywords and methods of transformers' Trainer are refused by name, with what to do instead.

    Raises
    ------
    ValueError: an empty dataset, nothing to train, a merged adapter, no label that counts in a whole epoch.
    FloatingPointError: the loss or a gradient is not finite. Training stops; the values before the update that led
    there are put back, and saved in output_dir/last-good.
    """

    def __init__(
        self,
        model: Module | None = None,
        args: TrainingArguments | None = None,
        train_dataset: Sequence[Example] | None = None,
        eval_dataset: Sequence[Example] | Mapping[str, Sequence[Example]] | None = None,
        processing_class: Any = None,
        compute_metrics: Metrics | None = None,
        *,
        tokenizer: Any = None,
        data_collator: Collator | None = None,
        model_init: Callable[[], Module] | None = None,
        callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
        preprocess_logits_for_metrics: Callable[[Array, Array | None], Array] | None = None,
        compute_loss_func: Loss | None = None,
        optimizers: tuple[Optimizer | None, Factor | None] = (None, None),
        **foreign: Any,
    ) -> None:
        accept("Trainer", KEYWORDS, foreign, _OWN)
        if (model is None) == (model_init is None):
            raise ValueError("Trainer needs a model, or a model_init that makes one, and not both")
        check_kinds(model, args)
        if callable(train_dataset) and not hasattr(train_dataset, "__len__"):
            raise TypeError("Trainer's third argument is train_dataset: pass a data_collator by name")
        self.model: Module = model if model_init is None else model_init()  # type: ignore[assignment]
        self.args = args or TrainingArguments()
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.processing_class = tokenizer if processing_class is None else processing_class
        self.compute_metrics, self._preprocess = compute_metrics, preprocess_logits_for_metrics
        self._optimizer, self._factor = optimizers
        self._rates: list[float] | None = None  # that an optimiser of the user's came with
        if self._optimizer is not None:
            check_optimizer(self.model, self._optimizer)
            self._rates = [group["lr"] for group in self._optimizer.param_groups]
        self._compute_loss, self._objective = compute_loss_func, None
        self.state, self.is_in_train = TrainerState(), False
        self._identity: dict[str, Any] = {}  # of the run that was begun last
        self._batches = Batches(self.model, self.processing_class, data_collator, bool(self.args.remove_unused_columns))
        if self.args.eval_strategy != "no" and eval_dataset is None:
            raise ValueError(f"eval_strategy is '{self.args.eval_strategy}', and there is no eval_dataset")
        if isinstance(callbacks, type | TrainerCallback):
            raise TypeError("callbacks is a list of them: write callbacks=[…]")
        first = [*_FIRST, PlateauCallback] if self.args.lr_scheduler_type == PLATEAU else _FIRST
        last = (ProgressCallback, InterruptionCallback)
        self.callback_handler = CallbackHandler([*first, *(callbacks or ()), *last])
        self.callback_handler.given |= {"model": self.model, "processing_class": self.processing_class}
        self._tell("on_init_end")

    def train(self, resume_from_checkpoint: bool | str | os.PathLike[str] | None = None) -> TrainOutput:
        """Train to the end, from the start or from a checkpoint: a path, or True for the newest whole one of the run
        that output_dir was last used for.

        Meanwhile the process keeps the memory that it frees (glibc's malloc), since each step needs as much again, and
        no other run can use output_dir.

        Raises
        ------
        KeyboardInterrupt, SystemExit: Ctrl-C, SIGTERM or SIGHUP, after the step that it came in and a checkpoint; a
        second one ends the training at once. With save_strategy="no" they end the program as ever.
        RuntimeError: another run is in output_dir.  ValueError: there is no such checkpoint, or it is of a run with
        another base, adapter, training data or arguments; of these the epochs and steps to go, and when to log, to
        evaluate and to save, may be others.
        """
        args, model = self.args, self.model
        data = check_dataset(self.train_dataset, "train_dataset")
        check_trainable(model)
        self._refuse_a_vain_evaluation()
        if args.steps(len(data))[0] == 0:
            raise ValueError(f"dataloader_drop_last leaves none of the {len(data)} examples: the batch is larger")
        with ExitStack() as stack:
            stack.enter_context(locked(args.output_dir))
            run, path = self._prepared(data, resume_from_checkpoint)
            for callback in self._interruptions():
                stack.enter_context(callback.listening(args))
            stack.enter_context(keeping_freed_memory())
            stack.callback(model.zero_grad)
            if args.gradient_checkpointing:
                stack.enter_context(recomputing(model))
            stack.enter_context(self._training())
            state, start = self.state, time.perf_counter()
            steps_before, tokens_before = state.global_step, state.num_input_tokens_seen
            self._tell("on_train_begin", resume_from_checkpoint=path)
            if args.eval_on_start and not state.global_step:
                self._evaluate({})
            train(run)
            refuse_changed_base(base_sha256(model), self._identity)
            seconds, mean = time.perf_counter() - start, state.mean_loss()
            metrics = {
                "train_runtime": seconds,
                "train_loss": mean,
                "train_steps_per_second": (state.global_step - steps_before) / seconds,
                "train_tokens_per_second": (state.num_input_tokens_seen - tokens_before) / seconds,
                "epoch": state.epoch,
            }
            self._tell("on_log", logs=metrics)
            self._tell("on_train_end")
        return TrainOutput(state.global_step, mean, metrics)

    def _prepared(self, data: Sequence[Example], resume: Any) -> tuple[Run, str | None]:
        """What a training is made of, and the path of the checkpoint that it goes on from."""
        args, model = self.args, self.model
        loader, total = TrainLoader(self._batches, data, args), args.steps(len(data))[1]
        optimizer = self._optimizer or make_optimizer(model, args)
        schedule = Schedule(args, optimizer, total, self._rates, self._factor)
        told = all_told(self._batches.collator, self._compute_loss, self._optimizer, self._rates, self._factor)
        if args.lr_scheduler_type == PLATEAU:  # evaluations decide the rates
            told |= told_evaluation(self.eval_dataset, self.compute_metrics)
        own = identity(model, args, data, told)
        self.state, path, run_id = TrainerState(max_steps=total), None, new_id()
        if resume:
            path = last_checkpoint(args.output_dir) if isinstance(resume, bool) else os.path.realpath(resume)
            self.state = load_checkpoint(path, model, optimizer, own)
            run_id = self._go_on(path, schedule, total)
        self._identity = {"id": run_id, **own}
        write_run(args.output_dir, args, self._identity)
        self.state.follow(args, len(data))
        self.callback_handler.given |= {"optimizer": optimizer, "lr_scheduler": schedule, "train_dataloader": loader}
        parameters, save = list(trainable(model).values()), partial(self._save, optimizer, schedule)
        self.callback_handler.given["objective"] = objective = self.objective()
        run = Run(objective, parameters, optimizer, schedule, loader, args, self.state, self.callback_handler,
                  self._evaluate, save)  # fmt: skip
        return run, path

    def _go_on(self, path: str, schedule: Schedule, total: int) -> str:
        """Give back what a checkpoint has beside values, for a training of so many steps; returns the run's id."""
        state, run = self.state, read_manifest(path)["run"]
        if total < state.global_step:
            raise ValueError(f"{path} is of step {state.global_step}, and this training ends at step {total}")
        schedule.refuse_another(path, run.get("factors_sha256"), state.global_step)
        run_id = str(run["id"])
        if total != state.max_steps and self.args.lr_scheduler_type not in _OF_NO_LENGTH:
            logger.warning(
                "the learning rates from step %d on are those of %d steps in all; those before it were of %d",
                state.global_step + 1, total, state.max_steps,
            )  # fmt: skip
        with naming(path):
            self.callback_handler.restore(state.stateful_callbacks)
        state.stateful_callbacks = {}
        if state.unanswered is not None and self.eval_dataset is None:
            state.unanswered["asked"]["should_evaluate"] = False
        leave_later(self.args.output_dir, path, run_id)
        state.best_model_checkpoint = bring_best(self.args.output_dir, path, state.best_model_checkpoint)
        prune(
            self.args.output_dir, self.args.save_total_limit, state.best_model_checkpoint, run_id
        )  # a kill forbore it
        return run_id

    @contextmanager
    def _training(self) -> Iterator[None]:
        """Whatever callbacks open within this block is closed at its end, however that comes."""
        self.is_in_train = True
        try:
            with self.callback_handler.closing(self.args, self.state):
                yield
        finally:
            self.is_in_train = False
            self.callback_handler.given |= dict.fromkeys(("optimizer", "lr_scheduler", "train_dataloader", "objective"))

    def _evaluate(self, found: dict[str, Any]) -> None:
        """Measure all of the eval_datasets but those of `found`, which gets their metrics by their names.

        Raises BrokenOff where a signal came."""
        several = self.eval_dataset if isinstance(self.eval_dataset, Mapping) else {"": None}
        with ExitStack() as stack:
            for callback in self._interruptions():
                stack.enter_context(callback.breaking_off())
            for name, data in several.items():
                if name not in found:
                    found[name] = self.evaluate(*(() if data is None else (data, f"eval_{name}")))
        try:
            self._tell("on_evaluate_all", metrics={name: v for each in several for name, v in found[each].items()})
        except Exception:
            found.clear()  # they may lack what a callback needs: a run that resumes measures anew
            raise

    def _interruptions(self) -> list[InterruptionCallback]:
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, InterruptionCallback)]

    def _save(self, optimizer: Optimizer, schedule: Schedule, state: TrainerState) -> None:
        folder, run = self.args.output_dir, {**self._identity, "factors_sha256": schedule.given(state.global_step)}
        state.stateful_callbacks = self.callback_handler.states()
        save_checkpoint(folder, self.model, optimizer, state, run)
        prune(folder, self.args.save_total_limit, state.best_model_checkpoint, run["id"])

    @property
    def control(self) -> TrainerControl:
        """What callbacks have asked for."""
        return self.callback_handler.control

    def add_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Tell this one of events too, after the others; a class makes one."""
        self.callback_handler.add_callback(callback)

    def pop_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> TrainerCallback | None:
        """Take out a callback, or the first of a class, and return it; None where there is none."""
        return self.callback_handler.pop_callback(callback)

    def remove_callback(self, callback: TrainerCallback | type[TrainerCallback]) -> None:
        """Take out a callback, or the first of a class if there is one."""
        self.callback_handler.remove_callback(callback)

    def save_model(self, output_dir: str | os.PathLike[str] | None = None) -> None:
        """The adapter, as save_pretrained writes it, and the tokenizer beside it."""
        model: Any = self.model
        folder = output_dir or self.args.output_dir
        model.save_pretrained(folder)
        if hasattr(self.processing_class, "save_pretrained"):
            self.processing_class.save_pretrained(folder)


_OWN = frozenset(inspect.signature(Trainer.__init__).parameters) - {"self", "foreign"}
