"""What a Trainer does without training: it measures a model on a dataset, and predicts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from npora.nn import Module
from npora.nn.module import Array
from npora.train.arguments import TrainingArguments
from npora.train.batches import Batches, Example, check_dataset
from npora.train.evaluation import NO_LABELS, Metrics, PredictionOutput, measure, prefixed, stream_logits, why_no_loss
from npora.train.handler import CallbackHandler
from npora.train.loaders import Loader
from npora.train.losses import Loss, with_loss
from npora.train.state import TrainerState
from npora.train.writing import writer

logger = logging.getLogger("npora")


class Evaluator:
    """evaluate(), predict() and predict_batches(). Each leaves the model's mode, gradients and values as they were."""

    model: Module
    args: TrainingArguments
    state: TrainerState
    callback_handler: CallbackHandler
    is_in_train: bool
    eval_dataset: Sequence[Example] | Mapping[str, Sequence[Example]] | None
    compute_metrics: Metrics | None
    train_dataset: Sequence[Example] | None
    _compute_loss: Loss | None
    _objective: Module | None
    _batches: Batches
    _preprocess: Callable[[Array, Array | None], Array] | None

    def evaluate(
        self,
        eval_dataset: Sequence[Example] | Mapping[str, Sequence[Example]] | None = None,
        metric_key_prefix: str = "eval",
        **gen_kwargs: Any,
    ) -> dict[str, Any]:
        """eval_loss, what compute_metrics returns under `eval_…`, and the time; for a dict of datasets each under
        `eval_<its name>_…`. Raises ValueError where there is no label to measure the loss against.

        gen_kwargs : with predict_with_generate, options of the model's generate
        """
        data = self.eval_dataset if eval_dataset is None else eval_dataset
        if isinstance(data, Mapping):
            found = [
                self.evaluate(examples, f"{metric_key_prefix}_{name}", **gen_kwargs) for name, examples in data.items()
            ]
            return {name: value for metrics in found for name, value in metrics.items()}
        # Without metrics nobody reads the logits, which are large where the classes are a vocabulary.
        keep = self.compute_metrics is not None and not self.args.prediction_loss_only
        with self._closing():
            prediction, labels = self._measure(
                check_dataset(data, "eval_dataset"), "evaluation batch", keep, gen_kwargs
            )
            if not labels:
                raise ValueError(f"there is nothing to evaluate: {why_no_loss(prediction)}. predict() needs no labels")
            metrics = {**prefixed(prediction.metrics, metric_key_prefix), "epoch": self.state.epoch}
            self.state.log_history.append({"step": self.state.global_step, **metrics})
            self._tell("on_log", logs=metrics)
            self._tell("on_evaluate", metrics=metrics)
        return metrics

    def _refuse_a_vain_evaluation(self) -> None:
        """Raise now what evaluate() would raise after an epoch, as far as the first examples tell."""
        if self.args.eval_strategy != "no" or self.args.eval_on_start:
            writer(self.model, self.args, {}, self._batches.pad_token_id())
            several = self.eval_dataset if isinstance(self.eval_dataset, Mapping) else {"": self.eval_dataset}
            for data in several.values():
                examples = check_dataset(data, "eval_dataset")
                batch = next(self._batches.stream(examples, self.args.per_device_eval_batch_size))
                if "labels" not in batch:
                    raise ValueError(f"eval_dataset: there is nothing to evaluate: {NO_LABELS}")

    def predict(
        self, test_dataset: Sequence[Example], metric_key_prefix: str = "test", **gen_kwargs: Any
    ) -> PredictionOutput:
        """The logits of every example, in order; with labels the mean loss and the metrics too. With
        predict_with_generate the tokens that the model writes, by gen_kwargs.

        Where examples are sequences of several lengths, predictions are padded with zeros and label_ids with −100;
        tokens with the pad token.
        """
        with self._closing():
            data = check_dataset(test_dataset, "test_dataset")
            prediction, labels = self._measure(data, "prediction batch", True, gen_kwargs)
            if prediction.label_ids is not None and not labels:
                logger.warning("%s_loss is nan: %s", metric_key_prefix, why_no_loss(prediction))
            prediction = prediction._replace(metrics=prefixed(prediction.metrics, metric_key_prefix))
            self._tell("on_predict", metrics=prediction.metrics)
        return prediction

    def predict_batches(self, examples: Iterable[Example]) -> Iterator[Array]:
        """The logits of per_device_eval_batch_size examples at a time, in order, as soon as they are computed.

        examples : a dataset, or anything that gives examples, which is read a batch ahead of what is printed and no
            further. Labels are not looked at
        """
        return stream_logits(self.model, self._batches.stream(examples, self.args.per_device_eval_batch_size, False))

    def _measure(
        self, data: Sequence[Example], unit: str, keep_logits: bool, gen_kwargs: Mapping[str, Any]
    ) -> tuple[PredictionOutput, float]:
        loader = Loader(self._batches, data, self.args.per_device_eval_batch_size, unit)
        self.callback_handler.given["eval_dataloader"] = loader
        metrics = self.compute_metrics if keep_logits else None
        after_batch = partial(self._tell, "on_prediction_step")
        write = writer(self.model, self.args, gen_kwargs, self._batches.pad_token_id())  # refuses what it cannot do
        return measure(
            self._measured_by(data),
            loader,
            after_batch,
            metrics,
            self._preprocess,
            keep_logits,
            write if keep_logits else None,
        )

    def objective(self) -> Module:
        """What training and evaluation call: the model, with the loss that is asked for."""
        if self._objective is None:
            self._objective = with_loss(self.model, self.args, self._compute_loss, self.train_dataset)
        return self._objective

    def _measured_by(self, data: Sequence[Example]) -> Module:
        """What these examples are measured with: what training learns."""
        return self.objective()

    def _closing(self) -> AbstractContextManager[None]:
        """As CallbackHandler.closing(), but within a training, at whose end callbacks close."""
        return nullcontext() if self.is_in_train else self.callback_handler.closing(self.args, self.state)

    def _tell(self, event: str, **more: Any) -> None:
        self.callback_handler.tell(event, self.args, self.state, **more)
