"""TrainingArguments: the names and defaults of transformers' Trainer."""

from __future__ import annotations

import enum
import functools
import inspect
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Set
from dataclasses import InitVar, dataclass
from numbers import Integral, Real
from typing import Any, TypeVar

from npora.nn.readable import Readable
from npora.optim.plateau import ReduceLROnPlateau
from npora.optim.schedule import SCHEDULES, get_schedule
from npora.train.foreign import ARGUMENTS, accept
from npora.train.micro_batches import TOKENS_AT_ONCE

logger = logging.getLogger("npora")

OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "paged_adamw_32bit", "sgd")  # the first three compute the same
PLATEAU = "reduce_lr_on_plateau"
_STRATEGIES = ("no", "steps", "epoch")
ON_NONFINITE = ("stop", "skip")
_YES_OR_NO = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_CHOICES = {
    "eval_strategy": _STRATEGIES, "save_strategy": (*_STRATEGIES, "best"), "logging_strategy": _STRATEGIES,
    "lr_scheduler_type": (*SCHEDULES, PLATEAU), "optim": OPTIMIZERS,
    "train_sampling_strategy": ("random", "sequential"),
    "on_nonfinite": ON_NONFINITE,
}  # fmt: skip
_COUNTS = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
_EVERY = ("logging_steps", "eval_steps", "save_steps")  # the first is the default of the second
_SIZES = ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "adam_epsilon", "eval_delay")
_Class = TypeVar("_Class", bound=type)


def _with_foreign_names(cls: _Class) -> _Class:
    """Let __init__ take the further names that transformers has (see foreign.py), and keep them as attributes."""
    init: Callable[..., None] = vars(cls)["__init__"]
    own = frozenset(inspect.signature(init).parameters) - {"self"}

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **keywords: Any) -> None:
        if keywords.get("train_sampling_strategy") == "group_by_length":
            keywords["train_sampling_strategy"], keywords["group_by_length"] = "random", True
        given = {name: value for name, value in keywords.items() if name not in own}
        foreign = accept(cls.__name__, ARGUMENTS, given, own)
        init(self, *args, **{name: value for name, value in keywords.items() if name in own})
        vars(self).update(foreign)

    type.__setattr__(cls, "__init__", __init__)
    return cls


def _number(text: str) -> float | None:
    try:
        return value if math.isfinite(value := float(text)) else None
    except ValueError:
        return None


@_with_foreign_names
@dataclass
class TrainingArguments(Readable):
    """How a model is trained.

    output_dir : gets run.json, log.jsonl and the folders checkpoint-N, of one run at a time
    num_train_epochs : may be a fraction; max_steps, where it is positive, wins
    optim : adamw_torch or sgd, which optim_args, as "momentum=0.9, nesterov=true", gives its options; of AdamW
        "loraplus_lr_ratio=16", by which B's learning rate is larger than A's (LoRA+, as of optim/lora_plus.py)
    learning_rate, weight_decay, adam_beta1, adam_beta2, adam_epsilon : AdamW's. Biases and norms do not decay
    lr_scheduler_type : constant; constant_with_warmup, linear, cosine and the others of optim/schedule.py, after
        warmup_steps (below 1 a share of all steps) of warm-up; or reduce_lr_on_plateau, whose rate falls where the
        evaluations' metric_for_best_model gets no better (its mode follows from greater_is_better)
    lr_scheduler_kwargs : the schedule's options by name, as {"num_cycles": 2}
    gradient_accumulation_steps : so many batches make one step; the gradient is that of the one large batch
    tokens_at_once : a batch of more tokens is cut into micro-batches, a thread for each, with the same gradient; 0
        never cuts
    gradient_checkpointing : keep each layer's input alone, and compute its forward again in backward
    label_smoothing_factor : so much of each label is spread over all classes
    class_weights : a number for each class, by which its labels count more or less (torch's `weight`), or "balanced"
        for scikit-learn's, by which classes count alike however many labels they have. eval_loss is of both too
    max_grad_norm : global L2 norm to clip at; 0 and None do not clip
    on_nonfinite : "stop" at a step whose loss or gradient is not finite, or to "skip" its update, ten in a row at most
    eval_strategy, save_strategy : "no", "steps" (every eval_steps, save_steps) or "epoch"; saving also "best", whenever
        the metric is better than ever. Evaluations begin after eval_delay steps or epochs, or eval_on_start
    save_minutes : save besides where the last checkpoint is so many minutes old
    save_total_limit : how many checkpoints are kept, the newest and the best one always among them
    logging_strategy, logging_steps, logging_first_step : when the loss goes to the terminal and to state.log_history;
        log.jsonl has every step. eval_steps, save_steps and logging_steps below 1 are shares of all steps
    load_best_model_at_end : by metric_for_best_model, "loss" unless given; greater_is_better follows from its name. It
        is saved whenever it is measured
    predict_with_generate : evaluate and predict let an encoder-decoder write; predictions are the tokens, at most
        generation_max_length of them, by generation_num_beams beams
    prediction_loss_only : evaluate measures the loss and calls no compute_metrics
    train_sampling_strategy : "random", or "sequential" for the order of the dataset
    dataloader_drop_last : leave out an epoch's last batch where it is smaller than the others
    remove_unused_columns : a data_collator is given what the model takes; False: all columns
    seed : of the order of the examples and of dropout; data_seed, where it is given, of the order alone

    `evaluation_strategy`, `warmup_ratio` and `activation_checkpointing` are taken under these names too. The other
    names that transformers has, all of which are in foreign.py, are taken where they ask for what npora does anyway, or
    a line of the log says that they have no effect.

    Raises
    ------
    ValueError: a value that makes no sense, with the values that do; one that asks for what npora does not do.
    TypeError: an unknown name.
    """

    output_dir: str = "trainer_output"
    per_device_train_batch_size: int = 8
    per_device_eval_batch_size: int = 8
    num_train_epochs: float = 3.0
    max_steps: int = -1
    optim: str = "adamw_torch"
    optim_args: str | None = None
    learning_rate: float = 5e-5
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    label_smoothing_factor: float = 0.0
    class_weights: list[float] | str | None = None
    max_grad_norm: float | None = 1.0
    on_nonfinite: str = "stop"
    lr_scheduler_type: str = "linear"
    lr_scheduler_kwargs: dict[str, Any] | str | None = None
    warmup_steps: float = 0
    gradient_accumulation_steps: int = 1
    tokens_at_once: int = TOKENS_AT_ONCE
    gradient_checkpointing: bool | None = False
    eval_strategy: str = "no"
    eval_steps: float | None = None
    eval_delay: float = 0
    eval_on_start: bool = False
    prediction_loss_only: bool = False
    predict_with_generate: bool = False
    generation_max_length: int | None = None
    generation_num_beams: int | None = None
    save_strategy: str = "steps"
    save_steps: float = 500
    save_minutes: float | None = None
    save_total_limit: int | None = None
    logging_strategy: str = "steps"
    logging_steps: float = 500
    logging_first_step: bool = False
    load_best_model_at_end: bool = False
    metric_for_best_model: str | None = None
    greater_is_better: bool | None = None
    train_sampling_strategy: str = "random"
    dataloader_drop_last: bool = False
    remove_unused_columns: bool | None = True
    seed: int = 42
    data_seed: int | None = None
    disable_tqdm: bool | None = False
    evaluation_strategy: InitVar[str | None] = None
    warmup_ratio: InitVar[float | None] = None
    activation_checkpointing: InitVar[bool | None] = None

    def __post_init__(
        self, evaluation_strategy: str | None, warmup_ratio: float | None, activation_checkpointing: bool | None
    ) -> None:
        self.output_dir = os.fspath(self.output_dir or "trainer_output")  # None is transformers' default
        self.gradient_checkpointing = bool(self.gradient_checkpointing or activation_checkpointing)
        if evaluation_strategy is not None:
            self.eval_strategy = evaluation_strategy
        if warmup_ratio is not None:
            self._require(0 <= warmup_ratio < 1, "warmup_ratio must lie in [0, 1)", warmup_ratio)
            self.warmup_steps = self.warmup_steps or warmup_ratio
        if self.eval_steps is None:
            self.eval_steps = self.logging_steps
        written = [
            name for name in ("generation_max_length", "generation_num_beams") if getattr(self, name) is not None
        ]
        for name in (*_COUNTS, *written):
            value = getattr(self, name)
            self._require(type(value) is int and value >= 1, f"{name} must be a whole number of at least 1", value)
        self._require(type(self.tokens_at_once) is int and self.tokens_at_once >= 0,
                      "tokens_at_once must be a whole number, 0 for any", self.tokens_at_once)  # fmt: skip
        self.max_grad_norm = self.max_grad_norm or 0  # None does not clip
        for name in ("seed", "data_seed"):
            value = getattr(self, name)
            whole = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0
            self._require(whole or (value is None and name == "data_seed"),
                          f"{name} must be a whole number, 0 or more", value)  # fmt: skip
        for name in (*_SIZES, *_EVERY, "num_train_epochs", "max_steps"):
            value = getattr(self, name)
            self._require(isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value),
                          f"{name} must be a number, and a finite one", value)  # fmt: skip
        for name in _SIZES:
            self._require(getattr(self, name) >= 0, f"{name} must not be negative", getattr(self, name))
        if (minutes := self.save_minutes) is not None:
            number = isinstance(minutes, Real) and not isinstance(minutes, bool) and 0 <= minutes < math.inf
            self._require(number, "save_minutes must be a number, 0 or more, or None", minutes)
            self._require(self.save_strategy != "no", "save_minutes needs a save_strategy that saves", minutes)
        for name in ("adam_beta1", "adam_beta2"):
            value = getattr(self, name)
            self._require(isinstance(value, float | int) and 0 <= value < 1, f"{name} must lie in [0, 1)", value)
        for name in _EVERY:
            value = getattr(self, name)
            self._require(0 < value < 1 or (value >= 1 and value % 1 == 0),
                          f"{name} must be a whole number of at least 1, or a share of all steps", value)  # fmt: skip
        self._require(self.max_steps > 0 or self.num_train_epochs > 0, "num_train_epochs must be positive",
                      self.num_train_epochs)  # fmt: skip
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            value = value.value if isinstance(value, enum.Enum) else value
            setattr(self, name, value)
            self._require(value in known, f"{name} must be one of {', '.join(known)}", value)
        self._check_loss()
        self._check_schedule()
        self.optim_options()
        if self.load_best_model_at_end or self.save_strategy == "best":
            self._check_best()

    def _check_loss(self) -> None:
        factor = self.label_smoothing_factor
        held = isinstance(factor, Real) and 0 <= factor <= 1
        self._require(held, "label_smoothing_factor must lie in [0, 1]", factor)
        if self.class_weights is None or isinstance(self.class_weights, str):
            self._require(self.class_weights in (None, "balanced"),
                          "class_weights must be a number for each class, or 'balanced'",
                          self.class_weights)  # fmt: skip
            return
        self._require(not isinstance(self.class_weights, Mapping | Set),
                      "class_weights must be a list, in the order of the classes", self.class_weights)  # fmt: skip
        self.class_weights = [float(weight) for weight in self.class_weights]
        some = len(self.class_weights) > 1 and min(self.class_weights) >= 0
        self._require(some and 0 < sum(self.class_weights) < math.inf,
                      "class_weights must be finite, none negative, and not all 0", self.class_weights)  # fmt: skip

    def _check_schedule(self) -> None:
        if isinstance(self.lr_scheduler_kwargs, str):
            self.lr_scheduler_kwargs = json.loads(self.lr_scheduler_kwargs)
        options: Any = self.lr_scheduler_kwargs or {}
        self._require(isinstance(options, dict), "lr_scheduler_kwargs must be a dict of options by name", options)
        if self.warmup_steps and self.lr_scheduler_type in ("constant", PLATEAU):
            other = ": say 'constant_with_warmup'" if self.lr_scheduler_type == "constant" else ""
            logger.warning(
                "TrainingArguments: warmup_steps=%s has no effect on lr_scheduler_type=%r%s", self.warmup_steps,
                self.lr_scheduler_type, other
            )  # fmt: skip
        if self.lr_scheduler_type == PLATEAU:
            self._require(self.eval_strategy != "no", f"{PLATEAU} needs an eval_strategy", self.eval_strategy)
            for name in options.keys() - inspect.signature(ReduceLROnPlateau).parameters.keys():
                raise ValueError(f"TrainingArguments: lr_scheduler_kwargs={options!r}: {PLATEAU} takes no {name!r}")
            return
        try:
            get_schedule(self.lr_scheduler_type, 0, 1, self.learning_rate, **options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"TrainingArguments: lr_scheduler_kwargs={options!r}: {error}") from None

    def optim_options(self) -> dict[str, Any]:
        """What optim_args says, of an optimiser that takes some."""
        told = self.optim_args or ""
        self._require(isinstance(told, str), "optim_args is a text, as 'momentum=0.9'", told)
        pairs = [pair.partition("=") for pair in told.replace(" ", "").split(",") if pair]
        said = {name: value for name, _, value in pairs}
        names = ("momentum", "dampening", "nesterov") if self.optim == "sgd" else ("loraplus_lr_ratio",)
        self._require(said.keys() <= set(names),
                      f"optim_args of {self.optim} may be {', '.join(names)}; learning_rate, weight_decay "
                      "and adam_… have names of their own", self.optim_args)  # fmt: skip
        options: dict[str, Any] = {}
        for name, value in said.items():
            known = _YES_OR_NO.get(value.lower()) if name == "nesterov" else _number(value)
            kind = "true or false" if name == "nesterov" else "a finite number"
            self._require(known is not None, f"optim_args: {name} must be {kind}", self.optim_args)
            options[name] = known
        self._require(options.get("loraplus_lr_ratio", 1) >= 1, "loraplus_lr_ratio must be at least 1", self.optim_args)
        return options

    def _check_best(self) -> None:
        self._require(self.eval_strategy != "no" and self.save_strategy in (self.eval_strategy, "best"),
                      "load_best_model_at_end needs eval_strategy and save_strategy to be the same, steps or epoch; "
                      "save_strategy 'best' needs an eval_strategy",
                      (self.eval_strategy, self.save_strategy))  # fmt: skip
        if self.save_strategy == "steps":
            assert self.eval_steps is not None, "as often as logging_steps unless given"
            times = self.save_steps / self.eval_steps
            alike = (self.save_steps < 1) == (self.eval_steps < 1)
            self._require(alike and math.isclose(times, round(times)),
                          "load_best_model_at_end needs save_steps to be a multiple of eval_steps, both of them "
                          "numbers of steps or both shares of all steps",
                          (self.save_steps, self.eval_steps))  # fmt: skip

    @staticmethod
    def _require(holds: bool, what: str, value: object) -> None:
        if not holds:
            raise ValueError(f"TrainingArguments: {what}; got {value!r}")

    def best_metric(self) -> tuple[str, bool]:
        """The metric's name, with its `eval_`, and whether more of it is better."""
        name = self.metric_for_best_model or "loss"
        greater = not name.endswith("loss") if self.greater_is_better is None else self.greater_is_better
        return name if name.startswith("eval_") else f"eval_{name}", greater

    def steps(self, examples: int) -> tuple[int, int]:
        """How many steps an epoch of so many examples has, and how many all the training has."""
        batches = math.ceil(self.examples_of_an_epoch(examples) / self.per_device_train_batch_size)
        per_epoch = math.ceil(batches / self.gradient_accumulation_steps)
        return per_epoch, self.max_steps if self.max_steps > 0 else math.ceil(self.num_train_epochs * per_epoch)

    def num_warmup_steps(self, steps: int) -> int:
        return math.ceil(self.warmup_steps * steps) if self.warmup_steps < 1 else int(self.warmup_steps)

    def examples_of_an_epoch(self, examples: int) -> int:
        return examples - examples % self.per_device_train_batch_size if self.dataloader_drop_last else examples

    def every(self, name: str, steps: int) -> int:
        """eval_steps, save_steps or logging_steps as a number of steps, where all the training has `steps`."""
        value = getattr(self, name)
        return math.ceil(steps * value) if value < 1 else int(value)
