"""The training loop, under the names of transformers' Trainer."""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from npora.data import collate
from npora.nn import Module
from npora.nn.module import Array, Parameter
from npora.nn.readable import Readable
from npora.optim import AdamW, clip_grad_norm, get_schedule
from npora.train import state as files
from npora.train.arguments import TrainingArguments
from npora.train.evaluation import Batch, EvalPrediction, PredictionOutput, predict
from npora.train.log import StepLog
from npora.train.micro_batches import accumulate_gradients
from npora.train.progress import Progress
from npora.train.state import TrainerState, trainable


@dataclass
class TrainOutput(Readable):
    global_step: int
    training_loss: float
    metrics: dict[str, float]


class Trainer(Readable):
    """Trains a model's trainable parameters with AdamW.

    model : a Module whose forward takes arrays by name, and `rng` for dropout, and returns (output, backward); with
        labels, output.loss is a mean over output.num_items labels, each of one row
    train_dataset, eval_dataset : any sequence of dicts with input_ids and labels (a Hugging Face Dataset too)
    processing_class : the tokenizer, kept for the user's own use; also taken as `tokenizer`
    compute_metrics : EvalPrediction → {name: number}

    Raises
    ------
    ValueError: an empty dataset, nothing to train, a merged adapter.
    FloatingPointError: the loss or a gradient is not finite. Training stops; the values before the update that led
    there are put back, and saved in output_dir/last-good.
    """

    def __init__(
        self,
        model: Module,
        args: TrainingArguments | None = None,
        train_dataset: Sequence[Mapping[str, Any]] | None = None,
        eval_dataset: Sequence[Mapping[str, Any]] | None = None,
        processing_class: Any = None,
        compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None = None,
        *,
        tokenizer: Any = None,
    ) -> None:
        self.model, self.args = model, args or TrainingArguments()
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset
        self.processing_class = tokenizer if processing_class is None else processing_class
        self.compute_metrics = compute_metrics
        self.state = TrainerState()
        inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._names = set(inspect.signature(inner.forward).parameters) - {"rng"}
        if self.args.eval_strategy != "no" and eval_dataset is None:
            raise ValueError(f"eval_strategy is '{self.args.eval_strategy}', and there is no eval_dataset")

    def train(self, resume_from_checkpoint: bool | str | None = None) -> TrainOutput:
        """Train to the end, from the start or from a checkpoint (a path, or True for the newest in output_dir)."""
        args, model = self.args, self.model
        data = _not_empty(self.train_dataset, "train_dataset")
        self._refuse_untrainable()
        per_epoch, total = args.steps(len(data))
        optimizer = AdamW(
            _groups(model, args.weight_decay), args.learning_rate, (args.adam_beta1, args.adam_beta2),
            args.adam_epsilon, args.weight_decay,
        )  # fmt: skip
        schedule = get_schedule(args.lr_scheduler_type, args.num_warmup_steps(total), total)
        run = self._run(len(data), total)
        self.state = TrainerState(max_steps=total)
        os.makedirs(args.output_dir, exist_ok=True)
        if resume_from_checkpoint:
            path = resume_from_checkpoint
            path = files.last_checkpoint(args.output_dir) if isinstance(path, bool) else path
            self.state = files.load_checkpoint(path, model, optimizer, run)
        state, start, tokens_before = self.state, time.perf_counter(), self.state.num_input_tokens_seen
        progress = Progress(total, state.global_step, args.logging_steps, args.disable_tqdm)
        parameters = list(trainable(model).values())
        good = [p.data.copy() for p in parameters]
        with StepLog(args.output_dir, state.global_step) as log:
            while state.global_step < total:
                epoch, step_in_epoch = divmod(state.global_step, per_epoch)
                rate = args.learning_rate * schedule(state.global_step)
                began = time.perf_counter()
                loss, norm, tokens = self._accumulate(data, epoch, step_in_epoch, parameters)
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    self._stop(state.global_step + 1, loss, good, log)
                for value, parameter in zip(good, parameters, strict=True):
                    np.copyto(value, parameter.data)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                with np.errstate(over="ignore", invalid="ignore"):  # an overflow shows in the next step's loss
                    optimizer.step()
                state.global_step += 1
                state.epoch = state.global_step / per_epoch
                state.num_input_tokens_seen += tokens
                state.loss_sum += loss
                entry = {"loss": loss, "grad_norm": norm, "learning_rate": rate, "epoch": state.epoch}
                log.write({"step": state.global_step, **entry, "tokens": tokens,
                           "seconds": time.perf_counter() - began})  # fmt: skip
                if state.global_step % args.logging_steps == 0:
                    state.log_history.append({"step": state.global_step, **entry})
                progress.step(state.global_step, loss)
                at_end = step_in_epoch + 1 == per_epoch or state.global_step == total
                if self._is_due(args.eval_strategy, args.eval_steps, at_end):
                    metrics = self.evaluate()
                    log.write({"step": state.global_step, **metrics})
                    progress.message("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
                    self._note_best(metrics)
                if self._is_due(args.save_strategy, args.save_steps, at_end):
                    self._save(optimizer, run)
        progress.close()
        model.zero_grad()
        if args.load_best_model_at_end and state.best_model_checkpoint:
            files.load_trained(os.path.join(args.output_dir, state.best_model_checkpoint), model)
        seconds = time.perf_counter() - start
        mean = state.loss_sum / max(state.global_step, 1)
        return TrainOutput(state.global_step, mean, {
            "train_runtime": seconds,
            "train_loss": mean,
            "train_tokens_per_second": (state.num_input_tokens_seen - tokens_before) / seconds,
            "epoch": state.epoch,
        })  # fmt: skip

    def _accumulate(
        self, data: Sequence[Mapping[str, Any]], epoch: int, step: int, parameters: Sequence[Parameter]
    ) -> tuple[float, float, int]:
        """One step's gradients: (loss, their norm before clipping, tokens).

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
                batch = self._batch([data[int(i)] for i in order[start : start + size]])
                loss, count = accumulate_gradients(self.model, batch, rng, args.tokens_at_once)
                loss_sum += loss
                items += count
                tokens += int(batch["attention_mask"].sum())
            for parameter in parameters:
                if parameter.grad is not None:
                    parameter.grad *= 1 / max(items, 1)
            norm = clip_grad_norm(parameters, args.max_grad_norm or math.inf)
        return loss_sum / max(items, 1), norm, tokens

    def _order(self, rows: int, epoch: int) -> Array:
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        return np.random.default_rng([seed, 0, epoch]).permutation(rows)

    def _batch(self, rows: Sequence[Mapping[str, Any]]) -> Batch:
        batch = collate(rows, self._names)
        if "labels" not in batch:
            raise ValueError(f"training needs labels; a row of this dataset has: {', '.join(rows[0])}")
        return batch

    def _refuse_untrainable(self) -> None:
        if not trainable(self.model):
            raise ValueError(
                "the model has no trainable parameter: load the adapter with is_trainable=True, or call get_peft_model"
            )
        for path, module in self.model.named_modules():
            if getattr(module, "merged_adapter", None) is not None:
                raise ValueError(f"the adapter is merged in {path}: call unmerge_adapter() before training")

    def _run(self, rows: int, total: int) -> dict[str, Any]:
        names = ("per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "weight_decay",
                 "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "lr_scheduler_type", "warmup_steps",
                 "seed", "data_seed", "tokens_at_once")  # fmt: skip
        return {"rows": rows, "max_steps": total, **{name: getattr(self.args, name) for name in names}}

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

    def _is_due(self, strategy: str, every: int | None, at_end_of_epoch: bool) -> bool:
        if strategy == "steps":
            return self.state.global_step % (every or 1) == 0
        return strategy == "epoch" and at_end_of_epoch

    def _note_best(self, metrics: Mapping[str, float]) -> None:
        if not self.args.load_best_model_at_end:
            return
        name, greater = self.args.best_metric()
        if name not in metrics:
            raise ValueError(f"metric_for_best_model: there is no '{name}'; there are: {', '.join(metrics)}")
        value, best = metrics[name], self.state.best_metric
        if best is None or (value > best if greater else value < best):
            self.state.best_metric = value
            self.state.best_model_checkpoint = f"checkpoint-{self.state.global_step}"

    def _save(self, optimizer: AdamW, run: Mapping[str, Any]) -> None:
        files.save_checkpoint(self.args.output_dir, self.model, optimizer, self.state, run)
        if self.args.save_total_limit:
            files.prune(self.args.output_dir, self.args.save_total_limit, self.state.best_model_checkpoint)

    def evaluate(self, eval_dataset: Sequence[Mapping[str, Any]] | None = None) -> dict[str, float]:
        """eval_loss, what compute_metrics returns under `eval_…`, and the time."""
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        # Without metrics nobody reads the logits, which are large where the classes are a vocabulary.
        keep = self.compute_metrics is not None
        metrics = self._predict(_not_empty(data, "eval_dataset"), "eval", keep_logits=keep).metrics
        metrics["epoch"] = self.state.epoch
        self.state.log_history.append({"step": self.state.global_step, **metrics})
        return metrics

    def predict(self, test_dataset: Sequence[Mapping[str, Any]], metric_key_prefix: str = "test") -> PredictionOutput:
        """The logits of every row, in order; with labels the mean loss and the metrics too.

        Where rows are sequences of several lengths, predictions are padded with zeros and label_ids with −100.
        """
        return self._predict(_not_empty(test_dataset, "test_dataset"), metric_key_prefix, keep_logits=True)

    def _predict(self, data: Sequence[Mapping[str, Any]], prefix: str, keep_logits: bool) -> PredictionOutput:
        return predict(self.model, self._eval_batches(data), self.compute_metrics, prefix, keep_logits)

    def _eval_batches(self, data: Sequence[Mapping[str, Any]]) -> Iterator[Batch]:
        size = self.args.per_device_eval_batch_size
        for start in range(0, len(data), size):
            yield collate([data[i] for i in range(start, min(start + size, len(data)))], self._names)

    def save_model(self, output_dir: str | None = None) -> None:
        """The adapter, as save_pretrained writes it."""
        model: Any = self.model
        model.save_pretrained(output_dir or self.args.output_dir)


def _not_empty(data: Sequence[Mapping[str, Any]] | None, name: str) -> Sequence[Mapping[str, Any]]:
    if data is None:
        raise ValueError(f"there is no {name}: pass one to Trainer")
    if len(data) == 0:
        raise ValueError(f"{name} is empty")
    return data


def _groups(model: Module, weight_decay: float) -> list[dict[str, Any]]:
    """Biases and norms do not decay."""
    decay: list[Parameter] = []
    keep: list[Parameter] = []
    for name, parameter in trainable(model).items():
        (keep if _is_bias_or_norm(name) else decay).append(parameter)
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": keep, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _is_bias_or_norm(name: str) -> bool:
    parts = name.lower().split(".")
    return parts[-1] == "bias" or any("norm" in part for part in parts)
