"""The training loop, under the names of transformers' Trainer."""

from __future__ import annotations

import inspect
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import numpy as np

from npora.machine.heap import keeping_freed_memory
from npora.nn import Module
from npora.nn.module import Array, Parameter
from npora.nn.readable import Readable, named_tuple
from npora.optim import Optimizer, clip_grad_norm, get_schedule
from npora.train import state as files
from npora.train.arguments import TrainingArguments
from npora.train.batches import Batches, Collator, Row, check_dataset, naming_rows, number_of_tokens
from npora.train.checks import check_kinds, check_reached, check_trainable
from npora.train.evaluation import Metrics
from npora.train.evaluator import Evaluator
from npora.train.foreign import KEYWORDS, Methods, accept
from npora.train.log import StepLog
from npora.train.micro_batches import accumulate_gradients
from npora.train.modes import recomputing
from npora.train.optimizer import make_optimizer
from npora.train.progress import Progress
from npora.train.state import TrainerState, trainable

logger = logging.getLogger("npora")


class TrainOutput(NamedTuple):
    global_step: int
    training_loss: float
    metrics: dict[str, float]

    def __repr__(self) -> str:
        return named_tuple(self)


class Trainer(Evaluator, Methods, Readable):
    """Trains a model's trainable parameters.

    model : a Module whose forward takes arrays by name, and `rng` for dropout, and returns (output, backward); with
        labels, output.loss is a mean over output.num_items labels, each of one row. model_init() makes one, where none
        is passed
    train_dataset, eval_dataset : any sequence of dicts with input_ids and labels (a Hugging Face Dataset too);
        eval_dataset may be a dict of several by name
    processing_class : the tokenizer, also taken as `tokenizer`: its pad_token_id pads where the config has none, and
        save_model saves it along
    compute_metrics : EvalPrediction → {name: number}
    preprocess_logits_for_metrics : (logits, labels) → what is kept of a batch's logits for it
    data_collator : rows → a dict of arrays, in place of npora's own padding

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
        train_dataset: Sequence[Row] | None = None,
        eval_dataset: Sequence[Row] | Mapping[str, Sequence[Row]] | None = None,
        processing_class: Any = None,
        compute_metrics: Metrics | None = None,
        *,
        tokenizer: Any = None,
        data_collator: Collator | None = None,
        model_init: Callable[[], Module] | None = None,
        preprocess_logits_for_metrics: Callable[[Array, Array | None], Array] | None = None,
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
        self.state = TrainerState()
        self._batches = Batches(self.model, self.processing_class, data_collator, bool(self.args.remove_unused_columns))
        if self.args.eval_strategy != "no" and eval_dataset is None:
            raise ValueError(f"eval_strategy is '{self.args.eval_strategy}', and there is no eval_dataset")

    def train(self, resume_from_checkpoint: bool | str | os.PathLike[str] | None = None) -> TrainOutput:
        """Train to the end, from the start or from a checkpoint (a path, or True for the newest in output_dir).

        Meanwhile the process keeps the memory that it frees (glibc's malloc), since each step needs as much again.
        """
        args, model = self.args, self.model
        data = check_dataset(self.train_dataset, "train_dataset")
        check_trainable(model)
        self._refuse_an_evaluation_without_labels()
        per_epoch, total = args.steps(len(data))
        if per_epoch == 0:
            raise ValueError(f"dataloader_drop_last leaves none of the {len(data)} rows: the batch is larger")
        optimizer = make_optimizer(model, args)
        schedule = get_schedule(args.lr_scheduler_type, args.num_warmup_steps(total), total)
        run = self._run(len(data), total)
        self.state = TrainerState(max_steps=total)
        os.makedirs(args.output_dir, exist_ok=True)
        path: Any = resume_from_checkpoint
        if path:
            path = files.last_checkpoint(args.output_dir) if isinstance(path, bool) else os.fspath(path)
            self.state = files.load_checkpoint(path, model, optimizer, run)
        state, start, tokens_before = self.state, time.perf_counter(), self.state.num_input_tokens_seen
        steps_before, every = state.global_step, args.every("logging_steps", total)
        parameters = list(trainable(model).values())
        good = [p.data.copy() for p in parameters]
        with ExitStack() as stack:
            stack.enter_context(keeping_freed_memory())
            stack.callback(model.zero_grad)
            if args.gradient_checkpointing:
                stack.enter_context(recomputing(model))
            log = stack.enter_context(
                StepLog(args.output_dir, state.global_step, os.path.dirname(path) if path else None)
            )
            progress = stack.enter_context(Progress(total, "step", state.global_step, every, bool(args.disable_tqdm)))
            if args.eval_on_start and not state.global_step:
                self._evaluate_within(log, progress)
            while state.global_step < total:
                epoch, step_in_epoch = divmod(state.global_step, per_epoch)
                rate = args.learning_rate * schedule(state.global_step)
                began = time.perf_counter()
                loss, norm, tokens, items = self._accumulate(data, epoch, step_in_epoch, parameters)
                if items and not (math.isfinite(loss) and math.isfinite(norm)):
                    self._stop(state.global_step + 1, loss, good, log)
                state.global_step += 1
                state.epoch = state.global_step / per_epoch
                state.num_input_tokens_seen += tokens
                at_end = step_in_epoch + 1 == per_epoch or state.global_step == total
                if items:
                    for value, parameter in zip(good, parameters, strict=True):
                        np.copyto(value, parameter.data)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    with np.errstate(over="ignore", invalid="ignore"):  # an overflow shows in the next step's loss
                        optimizer.step()
                    state.loss_sum += loss
                else:
                    self._pass_over(at_end)
                entry = {"loss": loss, "grad_norm": norm, "learning_rate": rate, "epoch": state.epoch}
                log.write({"step": state.global_step, **entry, "tokens": tokens,
                           "seconds": time.perf_counter() - began})  # fmt: skip
                if self._is_due("logging", total, at_end) or (args.logging_first_step and state.global_step == 1):
                    state.log_history.append({"step": state.global_step, **entry})
                progress.step(state.global_step, loss)
                improved = False
                if self._is_due("eval", total, at_end):
                    improved = self._evaluate_within(log, progress)
                if improved if args.save_strategy == "best" else self._is_due("save", total, at_end):
                    self._save(optimizer, run)
        if args.load_best_model_at_end and state.best_model_checkpoint:
            files.load_trained(os.path.join(args.output_dir, state.best_model_checkpoint), model)
        seconds = time.perf_counter() - start
        mean, steps = state.loss_sum / self._steps_with_labels(), state.global_step - steps_before
        return TrainOutput(state.global_step, mean, {
            "train_runtime": seconds,
            "train_loss": mean,
            "train_steps_per_second": steps / seconds,
            "train_tokens_per_second": (state.num_input_tokens_seen - tokens_before) / seconds,
            "epoch": state.epoch,
        })  # fmt: skip

    def _accumulate(
        self, data: Sequence[Mapping[str, Any]], epoch: int, step: int, parameters: Sequence[Parameter]
    ) -> tuple[float, float, int, int]:
        """One step's gradients: (loss, nan where no label counts; their norm before clipping; tokens; labels).

        Each batch gives the gradient of its sum of losses, and the sum of those is divided by the number of labels in
        all: the gradient of the one large batch, however unequal the small ones are. A batch is cut once more, into
        micro-batches that fit the machine.
        """
        args = self.args
        rng = np.random.default_rng([args.seed, 1, self.state.global_step])
        size = args.per_device_train_batch_size
        order = self._order(len(data), epoch)
        first = step * size * args.gradient_accumulation_steps
        self.model.zero_grad()
        loss_sum, items, tokens = 0.0, 0, 0
        with np.errstate(over="ignore", invalid="ignore"):  # the loss is checked right after
            for start in range(first, min(first + size * args.gradient_accumulation_steps, len(order)), size):
                numbers = [int(i) for i in order[start : start + size]]
                batch = self._batches.of([data[i] for i in numbers], numbers)
                if "labels" not in batch:
                    self._batches.refuse_unlabelled(data[numbers[0]])
                with naming_rows(numbers):
                    loss, count = accumulate_gradients(self.model, batch, rng, args.tokens_at_once)
                loss_sum += loss
                items += count
                tokens += number_of_tokens(batch)
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad *= 1 / max(items, 1)
            if items:
                check_reached(parameters)
            norm = clip_grad_norm(parameters, args.max_grad_norm or math.inf)
        return loss_sum / items if items else math.nan, norm, tokens, items

    def _order(self, rows: int, epoch: int) -> Array:
        """The numbers of an epoch's rows."""
        if self.args.train_sampling_strategy == "sequential":
            return np.arange(self.args.rows_of_an_epoch(rows))
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return np.random.default_rng([seed, 0, epoch]).permutation(rows)[: self.args.rows_of_an_epoch(rows)]

    def _pass_over(self, at_end: bool) -> None:
        """Warn that a step changed nothing, and raise at an epoch's end where none did."""
        self.state.steps_without_labels += 1
        why = "no label of its rows counts: all are −100, or have no token before them"
        logger.warning("step %d: %s; it changes nothing", self.state.global_step, why)
        if at_end and not self._steps_with_labels():
            raise ValueError(
                f"there is nothing to learn: in {self.state.global_step} steps {why}. Was every completion cut off "
                "(max_length)?"
            )

    def _steps_with_labels(self) -> int:
        return self.state.global_step - self.state.steps_without_labels

    def _run(self, rows: int, total: int) -> dict[str, Any]:
        names = ("per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "weight_decay",
                 "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "lr_scheduler_type", "warmup_steps",
                 "seed", "data_seed", "tokens_at_once", "train_sampling_strategy", "dataloader_drop_last")  # fmt: skip
        optim = self.args.optim.removesuffix("_fused")
        return {"optim": optim, "rows": rows, "max_steps": total, **{name: getattr(self.args, name) for name in names}}

    def _stop(self, step: int, loss: float, good: Sequence[Array], log: StepLog) -> None:
        """Raise, after the last values that gave a finite loss are back in the model and on the disk."""
        bad = [
            name for name, p in trainable(self.model).items() if p.grad is not None and not np.isfinite(p.grad).all()
        ]
        for value, parameter in zip(good, trainable(self.model).values(), strict=True):
            parameter.data = value.copy()
        self.model.zero_grad()
        log.write({"step": step, "stopped": f"the loss is {loss}"})
        saved = ""
        if hasattr(self.model, "save_pretrained"):
            path = os.path.join(self.args.output_dir, "last-good")
            self.model.save_pretrained(path)
            saved = f"; the adapter before it is saved in {path}"
        where = f", first in the gradient of {bad[0]}" if bad else ""
        raise FloatingPointError(
            f"step {step}: the loss is {loss} and something is not finite{where}: lower the learning rate, or look at "
            f"this step's rows{saved}"
        )

    def _is_due(self, what: str, steps: int, at_end_of_epoch: bool) -> bool:
        """Whether it is time for `what`: "eval", "save" or "logging"."""
        args, state = self.args, self.state
        strategy = getattr(args, f"{what}_strategy")
        if what == "eval" and (state.epoch if strategy == "epoch" else state.global_step) < args.eval_delay:
            return False
        if strategy == "steps":
            return state.global_step % args.every(f"{what}_steps", steps) == 0
        return bool(strategy == "epoch" and at_end_of_epoch)

    def _evaluate_within(self, log: StepLog, progress: Progress) -> bool:
        """Evaluate, say what was found, and whether it is better than ever."""
        metrics = self.evaluate()
        log.write({"step": self.state.global_step, **metrics})
        numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        progress.message("  ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
        if not (self.args.load_best_model_at_end or self.args.save_strategy == "best"):
            return False
        name, greater = self.args.best_metric()
        if name not in metrics:
            raise ValueError(f"metric_for_best_model: there is no '{name}'; there are: {', '.join(metrics)}")
        value, best = metrics[name], self.state.best_metric
        if math.isnan(value):
            logger.warning("step %d: %s is nan, which is better than nothing else", self.state.global_step, name)
            return False
        if best is not None and not (value > best if greater else value < best):
            return False
        self.state.best_metric = value
        self.state.best_model_checkpoint = f"checkpoint-{self.state.global_step}"
        return True

    def _save(self, optimizer: Optimizer, run: Mapping[str, Any]) -> None:
        files.save_checkpoint(self.args.output_dir, self.model, optimizer, self.state, run)
        if self.args.save_total_limit:
            files.prune(self.args.output_dir, self.args.save_total_limit, self.state.best_model_checkpoint)

    def save_model(self, output_dir: str | os.PathLike[str] | None = None) -> None:
        """The adapter, as save_pretrained writes it, and the tokenizer beside it."""
        model: Any = self.model
        folder = output_dir or self.args.output_dir
        model.save_pretrained(folder)
        if hasattr(self.processing_class, "save_pretrained"):
            self.processing_class.save_pretrained(folder)


_OWN = frozenset(inspect.signature(Trainer.__init__).parameters) - {"self", "foreign"}
